//! The receipt of a request's body: `LENGTH SHA256` on one line. Not here: which requests get one.

use cairn::http;
use sha2::{Digest, Sha256};

/// Twenty digits, a blank, 64 hexadecimal digits, a line feed.
const TEXT_BYTES: usize = 86;

/// Length and hash of one body.
#[derive(Debug)]
pub(super) struct Receipt {
    hash: Sha256,
    length: u64,
    text: [u8; TEXT_BYTES],
    written: usize,
}

impl Receipt {
    pub(super) fn new() -> Self {
        Self { hash: Sha256::new(), length: 0, text: [0; TEXT_BYTES], written: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Ends the body: returns the text and resets the receipt for the next body.
    pub(super) fn close(&mut self) -> &[u8] {
        self.written = 0;
        let mut digits = [0; 20];
        self.put(http::write_decimal(self.length, &mut digits));
        self.put(b" ");
        for byte in self.hash.finalize_reset() {
            self.put(&[b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]]);
        }
        self.put(b"\n");
        self.length = 0;
        self.text()
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text[..self.written]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.text[self.written..self.written + bytes.len()].copy_from_slice(bytes);
        self.written += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_says_what_sha256sum_says() {
        let mut receipt = Receipt::new();
        receipt.add(b"ab");
        receipt.add(b"c");
        let abc = "3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
        assert_eq!(receipt.close(), abc.as_bytes());
        let empty = "0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        assert_eq!(receipt.close(), empty.as_bytes());
    }
}
