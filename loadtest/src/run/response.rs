//! One answer, read from the text of HTTP/1.1, which streams of HTTP/2 carry, too. Not here: which request it answers.

use cairn::buffer::{Buffers, Queue};
use cairn::forward::{Body, BodyEnd, Chunking, Trailers, join};
use cairn::http::{self, BodyFraming, HeadLimits, ResponseHead};
use cairn::limits;
use sha2::{Digest, Sha256};

use super::counts::Failure;
use super::template::{Answer, RequestTemplate};

pub(super) const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT_MAX,
    request_line: limits::REQUEST_LINE_BYTES,
};

/// The field that says how a call of gRPC went.
const GRPC_STATUS: &[u8] = b"grpc-status";

/// How far an answer was read.
pub(super) struct AnswerReader {
    /// Bytes of an incomplete head that were searched for its end.
    scanned: usize,
    /// The answer whose body is arriving.
    answer: Option<Answer>,
    body: Body,
    /// Hash of the body so far, if one is expected.
    hash: Sha256,
}

impl AnswerReader {
    pub(super) fn new() -> Self {
        Self { scanned: 0, answer: None, body: Body::Done, hash: Sha256::new() }
    }

    /// Reads on. None: more has to arrive. `is_over`: nothing more will, and nothing was cut off. `head` is memory that is used within a
    /// call.
    pub(super) fn read(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        template: &RequestTemplate,
        head: &mut ResponseHead,
        is_over: bool,
    ) -> Result<Option<Answer>, Failure> {
        loop {
            let stepped = match self.answer {
                Some(_) => self.read_body(buffers, input, template, head, is_over)?,
                None => self.read_head(buffers, input, template, head)?,
            };
            if !stepped {
                return Ok(None);
            }
            if let Some(mut answer) = self.answer.take_if(|_| self.body.is_done()) {
                answer.sha256 = template.expect.sha256.map(|_| self.hash.finalize_reset().into());
                return Ok(Some(answer));
            }
        }
    }

    /// False: more must arrive.
    fn read_head(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        template: &RequestTemplate,
        head: &mut ResponseHead,
    ) -> Result<bool, Failure> {
        let Some(mut lease) = input.pop(buffers.pieces()) else { return Ok(false) };
        let parsed = http::parse_response(lease.bytes(), &LIMITS, &mut self.scanned, template.method, head);
        let Some(length) = parsed.map_err(|_| Failure::Protocol)? else {
            input.push_front(buffers.pieces(), lease);
            return join(buffers, input).map_err(|_| Failure::Protocol);
        };
        let grpc_status = match template.expect.grpc {
            // Of a call that fails at once, in the head.
            true => {
                head.fields.named(lease.bytes(), GRPC_STATUS).next().map(|field| status(field.value.of(lease.bytes())))
            }
            false => None,
        };
        lease.advance(length);
        match head.status {
            101 => return Err(Failure::Protocol),
            // Interim (RFC 9110 section 15.2): the answer is yet to come.
            100..200 => {}
            status => {
                let mut answer = Answer { status, length: 0, sha256: None, grpc_status, keep_alive: head.keep_alive };
                let trailers = if template.expect.grpc { Trailers::Passed } else { Trailers::Dropped };
                self.body = Body::of_response(head.body, trailers);
                if let BodyFraming::Length(length) = head.body
                    && length <= lease.len() as u64
                {
                    // The usual case: the body came with its head.
                    if template.expect.sha256.is_some() {
                        self.hash.update(&lease.bytes()[..length as usize]);
                    }
                    lease.advance(length as usize);
                    (answer.length, self.body) = (length, Body::Done);
                }
                self.answer = Some(answer);
            }
        }
        input.push_front(buffers.pieces(), lease);
        Ok(true)
    }

    fn read_body(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        template: &RequestTemplate,
        head: &mut ResponseHead,
        is_over: bool,
    ) -> Result<bool, Failure> {
        let mut dropped = Queue::default();
        let read = self.body.read(buffers, input, &mut dropped, Chunking::Removed, &mut head.fields);
        if template.expect.sha256.is_some() {
            buffers.iter(&dropped).for_each(|piece| self.hash.update(piece.bytes()));
        }
        dropped.clear(buffers.pieces());
        let progress = read.map_err(|_| Failure::Body)?;
        if let Some(answer) = &mut self.answer {
            answer.length += progress.data;
            if let Some(BodyEnd::Trailers(section)) = progress.end {
                let mut trailers = section.passed(&head.fields);
                let found = trailers.find(|(name, _)| name.eq_ignore_ascii_case(GRPC_STATUS));
                answer.grpc_status = found.map(|(_, value)| status(value));
            }
        }
        if is_over {
            self.body.close();
        }
        Ok(self.body.is_done())
    }
}

/// The number of a status; what is none counts as the one for "unknown".
fn status(value: &[u8]) -> u64 {
    const UNKNOWN: u64 = 2;
    http::parse_decimal(value).unwrap_or(UNKNOWN)
}
