//! How are several ranges framed in one body, and how long is that body?
//!
//! `multipart/byteranges` (RFC 9110, section 14.6; RFC 2046, section 5.1). The frame is computed
//! before a byte of the file is read, so `Content-Length` is known and HEAD can say it.

use ::http::HeaderValue;
use nigh_proto::Digest;

use super::range::{ByteRange, content_range};

/// The frame of one multipart answer.
#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: String,
    parts: Vec<Part>,
    size_bytes: u64,
}

/// One range and the bytes that stand before it.
#[derive(Clone, Debug)]
pub struct Part {
    /// Delimiter, part header and blank line.
    pub head: String,
    pub range: ByteRange,
}

impl Multipart {
    /// Frames `ranges` of a representation of `size_bytes` and type `content_type`.
    ///
    /// The boundary comes from `digest`, so equal requests get equal bytes; a body cannot hold
    /// 128 bits of its own digest except on purpose, and then a client still has every length.
    pub fn new(
        digest: &Digest,
        content_type: &HeaderValue,
        ranges: &[ByteRange],
        size_bytes: u64,
    ) -> Self {
        let boundary = format!("nigh-{}", &digest.to_string()[32..]);
        let content_type = content_type.to_str().unwrap_or("application/octet-stream");
        let part = |(index, range): (usize, &ByteRange)| {
            let content_range = content_range(range, size_bytes);
            let content_range = content_range.to_str().expect("digits and punctuation");
            let line = if index == 0 { "" } else { "\r\n" };
            let head = format!(
                "{line}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range}\r\n\r\n"
            );
            Part { head, range: range.clone() }
        };
        let parts = ranges.iter().enumerate().map(part).collect();
        Multipart { boundary, parts, size_bytes }
    }

    /// Every part, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What stands after the last part.
    pub fn tail(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// The value of `Content-Type`.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::try_from(format!("multipart/byteranges; boundary={}", self.boundary))
            .expect("hex digits")
    }

    /// The value of `Content-Length`: heads, ranges and tail.
    pub fn content_length(&self) -> u64 {
        let part = |part: &Part| part.head.len() as u64 + (part.range.end - part.range.start);
        self.parts.iter().map(part).sum::<u64>() + self.tail().len() as u64
    }

    /// Whether the frame costs more than it saves: then the whole is the better answer.
    pub fn is_wasteful(&self) -> bool {
        self.content_length() >= self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(multipart: &Multipart, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in multipart.parts() {
            body.extend(part.head.as_bytes());
            body.extend(&file[part.range.start as usize..part.range.end as usize]);
        }
        body.extend(multipart.tail().as_bytes());
        body
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let file: Vec<u8> = (0..=255).cycle().take(2000).collect();
        let kind = HeaderValue::from_static("text/plain");
        let multipart = Multipart::new(&Digest::of(&file), &kind, &[0..10, 500..1500], 2000);
        assert_eq!(body(&multipart, &file).len() as u64, multipart.content_length());
        assert!(!multipart.is_wasteful());
        assert!(
            Multipart::new(&Digest::of(&file), &kind, &[0..900, 1000..2000], 2000).is_wasteful()
        );
    }

    #[test]
    fn parts_look_as_in_rfc_9110_section_14_6() {
        let file = b"0123456789";
        let kind = HeaderValue::from_static("text/plain");
        let multipart = Multipart::new(&Digest::of(file), &kind, &[0..2, 9..10], 10);
        let content_type = multipart.content_type();
        let boundary = content_type.to_str().unwrap().split_once("boundary=").unwrap().1;
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
             --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n\
             --{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body(&multipart, file)).unwrap(), expected);
        assert!(boundary.len() <= 70);
    }
}
