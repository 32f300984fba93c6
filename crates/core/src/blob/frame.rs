//! May these bytes be served to a browser as `Content-Encoding: zstd`?
//!
//! Stored zstd bodies go out as they are, so the store takes only what every decoder reads: exactly
//! one frame (RFC 8878, section 3.1.1) that states its content size, needs no dictionary, and has a
//! window of at most 8 MiB (RFC 9659). Whether it decodes to the right bytes is for `codec`.

use zstd::zstd_safe;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What RFC 9659, section 3 allows a `zstd` content coding, in bytes.
const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Why bytes are not a zstd body that may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("it does not begin with the header of a zstd frame")]
    Header,
    #[error("the frame needs a dictionary")]
    Dictionary,
    #[error("the frame does not state its content size")]
    NoContentSize,
    #[error(
        "the window of the frame has {bytes} bytes, more than the {WINDOW_BYTES_MAX} of RFC 9659"
    )]
    Window { bytes: u64 },
    #[error("it is not exactly one whole frame")]
    Extent,
    #[error("the frame is damaged")]
    Damaged,
}

/// The raw length that the one zstd frame in `body` states.
pub(super) fn content_bytes(body: &[u8]) -> Result<u64, BadFrame> {
    let header = Header::parse(body)?;
    if header.window_bytes > WINDOW_BYTES_MAX {
        return Err(BadFrame::Window { bytes: header.window_bytes });
    }
    match zstd_safe::find_frame_compressed_size(body) {
        Ok(length) if length == body.len() => Ok(header.content_bytes),
        Ok(_) | Err(_) => Err(BadFrame::Extent),
    }
}

struct Header {
    content_bytes: u64,
    window_bytes: u64,
}

impl Header {
    /// RFC 8878, section 3.1.1.1.
    fn parse(body: &[u8]) -> Result<Self, BadFrame> {
        let rest = body.strip_prefix(&MAGIC).ok_or(BadFrame::Header)?;
        let (&descriptor, rest) = rest.split_first().ok_or(BadFrame::Header)?;
        let is_single_segment = descriptor & 0b0010_0000 != 0;
        if descriptor & 0b0000_1000 != 0 {
            return Err(BadFrame::Header);
        }
        if descriptor & 0b11 != 0 {
            return Err(BadFrame::Dictionary);
        }
        let (window_bytes, rest) = if is_single_segment {
            (None, rest)
        } else {
            let (&window, rest) = rest.split_first().ok_or(BadFrame::Header)?;
            (Some(window_bytes(window)), rest)
        };
        let content_bytes = match (descriptor >> 6, is_single_segment) {
            (0, false) => return Err(BadFrame::NoContentSize),
            (0, true) => read_le(rest, 1)?,
            (1, _) => read_le(rest, 2)? + 256,
            (2, _) => read_le(rest, 4)?,
            (_, _) => read_le(rest, 8)?,
        };
        Ok(Header { content_bytes, window_bytes: window_bytes.unwrap_or(content_bytes) })
    }
}

/// RFC 8878, section 3.1.1.1.2.
const fn window_bytes(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + (base / 8) * (descriptor & 7) as u64
}

fn read_le(bytes: &[u8], count: usize) -> Result<u64, BadFrame> {
    let number = bytes.get(..count).ok_or(BadFrame::Header)?;
    Ok(number.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use zstd::stream::Encoder;

    use super::*;

    fn streamed(raw: &[u8], set: impl FnOnce(&mut Encoder<'_, Vec<u8>>)) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), 3).unwrap();
        set(&mut encoder);
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_frame_made_in_one_go_states_its_size() {
        for length in [0usize, 1, 255, 256, 257, 65_791, 65_792, 1 << 20] {
            let body = zstd::bulk::compress(&vec![b'a'; length], 3).unwrap();
            assert_eq!(content_bytes(&body), Ok(length as u64));
        }
    }

    #[test]
    fn a_stream_without_its_size_is_refused() {
        assert_eq!(content_bytes(&streamed(b"hello", |_| ())), Err(BadFrame::NoContentSize));
    }

    #[test]
    fn a_window_that_browsers_refuse_is_refused() {
        let raw = vec![b'a'; 17 << 20];
        let body = streamed(&raw, |encoder| {
            encoder.set_pledged_src_size(Some(raw.len() as u64)).unwrap();
            encoder.window_log(24).unwrap();
        });
        assert_eq!(content_bytes(&body), Err(BadFrame::Window { bytes: 16 << 20 }));
        let allowed = streamed(&raw, |encoder| {
            encoder.set_pledged_src_size(Some(raw.len() as u64)).unwrap();
            encoder.window_log(23).unwrap();
        });
        assert_eq!(content_bytes(&allowed), Ok(17 << 20));
    }

    #[test]
    fn a_frame_that_needs_a_dictionary_is_refused() {
        let dictionary = zstd::dict::from_samples(&vec![[7u8; 64]; 200], 4096)
            .unwrap_or_else(|_| b"hello hello hello hello".to_vec());
        let mut body = zstd::bulk::compress(b"hello", 3).unwrap();
        body[4] |= 1;
        assert_eq!(content_bytes(&body), Err(BadFrame::Dictionary), "{}", dictionary.len());
    }

    #[test]
    fn anything_before_or_behind_the_frame_is_refused() {
        let frame = zstd::bulk::compress(b"hello hello hello", 3).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        assert_eq!(content_bytes(&[&frame[..], &frame].concat()), Err(BadFrame::Extent));
        assert_eq!(content_bytes(&[&frame[..], &skippable].concat()), Err(BadFrame::Extent));
        assert_eq!(content_bytes(&[&frame[..], b"x"].concat()), Err(BadFrame::Extent));
        assert_eq!(content_bytes(&[&skippable[..], &frame].concat()), Err(BadFrame::Header));
        assert_eq!(content_bytes(b"hello"), Err(BadFrame::Header));
        for length in 0..frame.len() {
            assert!(content_bytes(&frame[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_measured_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = content_bytes(&tail);
            let _ = content_bytes(&[&MAGIC[..], &tail].concat());
        }
    }
}
