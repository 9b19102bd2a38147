//! Answers that come compressed (gzip): taken apart as they arrive, and never more of one than an answer may have
//! (invariant 10).

use flate2::write::GzDecoder;
use std::io::{Error, ErrorKind, Result, Write};

/// An answer's body on its way.
pub(super) struct Gunzip(GzDecoder<Bounded>);

/// What has been taken apart.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> Result<usize> {
        if self.bytes.len().saturating_add(more.len()) > self.bytes_max {
            return Err(Error::new(ErrorKind::OutOfMemory, "more than an answer may have"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Gunzip {
    pub fn new(bytes_max: usize) -> Gunzip {
        Gunzip(GzDecoder::new(Bounded { bytes: Vec::new(), bytes_max }))
    }

    /// The next part has come.
    pub fn add(&mut self, part: &[u8]) -> Result<()> {
        self.0.write_all(part)
    }

    /// The whole; an error where its end is missing, or it is not what was sent.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.0.finish().map(|whole| whole.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gunzip(body: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
        let mut gunzip = Gunzip::new(bytes_max);
        for part in body.chunks(7) {
            gunzip.add(part)?;
        }
        gunzip.finish()
    }

    #[test]
    fn an_answer_comes_back_whole_or_not_at_all() {
        let body = "a record, and another; ".repeat(5_000);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.as_bytes()).unwrap();
        let compressed = encoder.finish().unwrap();
        assert_eq!(gunzip(&compressed, body.len()).unwrap(), body.as_bytes());
        assert!(gunzip(&compressed, body.len() - 1).is_err(), "more than it may have");
        for end in [0, 5, 30, compressed.len() - 9, compressed.len() - 1] {
            assert!(gunzip(&compressed[..end], body.len()).is_err(), "cut off at {end}");
        }
        let mut broken = compressed.clone();
        let last = broken.len() - 6;
        broken[last] ^= 1;
        assert!(gunzip(&broken, body.len()).is_err(), "its sum is another one");
        assert!(gunzip(b"plain text", 100).is_err());
    }
}
