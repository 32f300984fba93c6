//! How is one value written in the data section?

/// A value of the MaxMind DB data format, as far as nigh writes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Left out of the map that holds it.
    Absent,
    Text(String),
    Double(f64),
    Uint16(u16),
    Uint32(u32),
    Uint64(u64),
    Map(Vec<(&'static str, Value)>),
    Array(Vec<Value>),
}

impl Value {
    /// Absent when empty.
    pub(super) fn text(text: &str) -> Value {
        if text.is_empty() { Value::Absent } else { Value::Text(text.to_owned()) }
    }

    /// Without its absent entries; absent when nothing is left.
    pub(super) fn map<const N: usize>(entries: [(&'static str, Value); N]) -> Value {
        let present: Vec<_> =
            entries.into_iter().filter(|(_, value)| *value != Value::Absent).collect();
        if present.is_empty() { Value::Absent } else { Value::Map(present) }
    }

    /// Appends the value. An absent one at the top becomes an empty map.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Absent => write_control(out, 7, 0),
            Value::Text(text) => write_text(out, text),
            Value::Double(number) => {
                write_control(out, 3, 8);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Value::Uint16(number) => write_number(out, 5, &number.to_be_bytes()),
            Value::Uint32(number) => write_number(out, 6, &number.to_be_bytes()),
            Value::Uint64(number) => write_number(out, 9, &number.to_be_bytes()),
            Value::Map(entries) => {
                write_control(out, 7, entries.len());
                for (key, value) in entries {
                    write_text(out, key);
                    value.write(out);
                }
            }
            Value::Array(values) => {
                write_control(out, 11, values.len());
                for value in values {
                    value.write(out);
                }
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_control(out, 2, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Without leading zero bytes, as the format asks for.
fn write_number(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    write_control(out, kind, bytes.len() - zeros);
    out.extend_from_slice(&bytes[zeros..]);
}

/// The control byte: the kind in three bits (0 for kinds above 7, which follow in a byte of their
/// own), the size in five, with more bytes for sizes from 29.
fn write_control(out: &mut Vec<u8>, kind: u8, size: usize) {
    let (short, more) = match size {
        0..29 => (size, 0),
        29..285 => (29, 1),
        285..65_821 => (30, 2),
        _ => (31, 3),
    };
    let short = u8::try_from(short).expect("at most 31");
    out.push(if kind <= 7 { kind << 5 | short } else { short });
    if kind > 7 {
        out.push(kind - 7);
    }
    let beyond = size - [0, 29, 285, 65_821][more];
    assert!(beyond < 1 << 24, "no value of the format is larger than 16 MiB");
    out.extend_from_slice(&beyond.to_be_bytes()[size_of::<usize>() - more..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    #[test]
    fn values_follow_the_examples_of_the_format() {
        for (value, bytes) in [
            (Value::text("en"), b"\x42en".to_vec()),
            (Value::Uint16(24), vec![0b1010_0001, 24]),
            (Value::Uint32(0), vec![0b1100_0000]),
            (Value::Uint64(258), vec![2, 2, 1, 2]),
            (Value::Array(vec![Value::text("a")]), b"\x01\x04\x41a".to_vec()),
            (Value::Map(vec![("k", Value::text("v"))]), b"\xe1\x41k\x41v".to_vec()),
            (Value::Double(0.0), [vec![0b0110_1000], vec![0; 8]].concat()),
        ] {
            assert_eq!(written(&value), bytes, "{value:?}");
        }
    }

    #[test]
    fn long_texts_have_longer_sizes() {
        for (length, head) in [
            (28, vec![0x5c]),
            (29, vec![0x5d, 0]),
            (284, vec![0x5d, 255]),
            (285, vec![0x5e, 0, 0]),
            (65_820, vec![0x5e, 255, 255]),
            (65_821, vec![0x5f, 0, 0, 0]),
        ] {
            assert_eq!(written(&Value::Text("x".repeat(length)))[..head.len()], head, "{length}");
        }
    }

    #[test]
    fn absent_entries_are_not_written() {
        let inner = Value::map([("names", Value::text(""))]);
        assert_eq!(Value::map([("city", inner)]), Value::Absent);
    }
}
