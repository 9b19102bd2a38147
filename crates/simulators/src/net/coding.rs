//! Content codings: bodies that come compressed, and answers to those who want them so. gzip and deflate, as RFC 9110 has them.

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{Read, Write};

/// A coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// By its name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Gzip, Self::Deflate].into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name.trim()))
    }

    /// As headers have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The one of these that an `Accept-Encoding` likes best, the first of them where it likes several alike.
    pub fn wanted(accept: &str, offered: &[Self]) -> Option<Self> {
        let weight = |coding: &Self| {
            accept.split(',').find_map(|entry| {
                let (name, rest) = entry.split_once(';').unwrap_or((entry, ""));
                let weight = rest.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.trim().parse::<f64>().ok())?;
                (Self::of(name) == Some(*coding)).then_some(weight)
            })
        };
        let mut best: Option<(f64, Self)> = None;
        for (weight, coding) in offered.iter().filter_map(|coding| Some((weight(coding)?, *coding))) {
            if weight > best.map_or(0.0, |(known, _)| known) {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }

    /// A body, compressed.
    pub fn encode(self, body: &[u8]) -> Bytes {
        // Into memory: nothing can fail.
        let encoded = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        encoded.unwrap_or_default().into()
    }

    /// A body as it was; none where it is not of this coding, or has more than so many bytes.
    pub fn decode(self, body: &[u8], bytes_max: usize) -> Option<Bytes> {
        let most = u64::try_from(bytes_max).ok()?.saturating_add(1);
        let mut decoded = Vec::new();
        let read = match self {
            Self::Gzip => GzDecoder::new(body).take(most).read_to_end(&mut decoded),
            Self::Deflate => ZlibDecoder::new(body).take(most).read_to_end(&mut decoded),
        };
        read.ok().filter(|_| decoded.len() <= bytes_max).map(|_| decoded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_is_the_one_that_is_liked_best_and_none_where_none_is_named() {
        let both = [Coding::Gzip, Coding::Deflate];
        assert_eq!(Coding::wanted("gzip, deflate, br", &both), Some(Coding::Gzip));
        assert_eq!(Coding::wanted("deflate, GZIP;q=0.5", &both), Some(Coding::Deflate));
        assert_eq!(Coding::wanted("deflate", &[Coding::Gzip]), None);
        assert_eq!(Coding::wanted("gzip;q=0, br, *", &both), None);
        assert_eq!(Coding::wanted("", &both), None);
    }

    #[test]
    fn what_is_compressed_comes_back_and_what_is_broken_or_too_much_does_not() {
        let body = "many words ".repeat(1_000);
        for coding in [Coding::Gzip, Coding::Deflate] {
            let encoded = coding.encode(body.as_bytes());
            assert!(encoded.len() < 500, "{}", encoded.len());
            assert_eq!(coding.decode(&encoded, body.len()).as_deref(), Some(body.as_bytes()));
            assert_eq!(coding.decode(&encoded, body.len() - 1), None);
            assert_eq!(coding.decode(encoded.get(..40).unwrap(), body.len()), None);
            assert_eq!(coding.decode(b"plain", 100), None);
        }
    }
}
