//! A request of a run, and its expected answer. Not here: sending it.

use cairn::http::Method;

use super::counts::Failure;
use crate::args::Sha256;

/// A request that is sent repeatedly.
#[derive(Debug)]
pub(super) struct RequestTemplate {
    /// Index of its host.
    pub(super) host: u16,
    /// Head and body as they are sent.
    pub(super) bytes: Box<[u8]>,
    pub(super) method: Method,
    pub(super) expect: Expect,
}

/// Properties of a correct answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expect {
    /// Status; None: any below 400.
    pub(super) status: Option<u16>,
    /// Bytes of the body.
    pub(super) length: Option<u64>,
    /// Hash of the body.
    pub(super) sha256: Option<Sha256>,
    /// Whether it is a call of gRPC, whose status has to be 0.
    pub(super) grpc: bool,
}

/// One complete answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Bytes of body.
    pub(super) length: u64,
    /// Hash of the body, if one is expected.
    pub(super) sha256: Option<Sha256>,
    /// How a call of gRPC went, if there was one and the server has said so.
    pub(super) grpc_status: Option<u64>,
    /// Whether the connection persists.
    pub(super) keep_alive: bool,
}

impl Expect {
    /// The failure of an answer that is not as expected.
    pub(super) fn check(&self, answer: &Answer) -> Option<Failure> {
        let good = self.status.map_or(answer.status < 400, |status| answer.status == status)
            && (!self.grpc || answer.grpc_status == Some(0));
        let whole = self.length.is_none_or(|length| answer.length == length)
            && self.sha256.is_none_or(|hash| answer.sha256 == Some(hash));
        match (good, whole) {
            (false, _) => Some(Failure::Status),
            (true, false) => Some(Failure::Body),
            (true, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_to_end_with_status_0() {
        let answer = |grpc_status| Answer { status: 200, length: 0, sha256: None, grpc_status, keep_alive: true };
        let check = |grpc, status| Expect { grpc, ..Expect::default() }.check(&answer(status));
        let failed = Some(Failure::Status);
        assert_eq!([Some(0), None, Some(14)].map(|status| check(true, status)), [None, failed, failed]);
        assert_eq!(check(false, None), None);
    }
}
