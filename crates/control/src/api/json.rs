//! How is a JSON body read, and where is one wrong?
//!
//! Serde takes a list for a struct, its items for the fields in their order; it does not take `2.0`
//! for a whole number, as JSON Schema does. The description of the API says neither, so a body is
//! read through [`Strict`], which is for every type what the description says. Nothing of control's
//! has a use for the character NUL or for a whole number that its database cannot hold, so nothing that people
//! send may have one anywhere. An error says at which field it is, as a JSON Pointer (RFC 6901).

use std::{cell::RefCell, fmt, mem::take};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer as _,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

/// Whole numbers above it that are written with a point are not exact.
const EXACT_MAX: f64 = 9e15;

/// A body that is not what its route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The field; empty for the whole body.
    pub pointer: String,
    pub why: String,
}

/// Who has sent a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Person,
    /// Its reports have numbers that are drawn at random, and texts that others have made; none of
    /// that is a reason to refuse all that it says.
    Machine,
}

/// Reads a whole document.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8], sender: Sender) -> Result<T, Wrong> {
    let trail = Trail { names: RefCell::default(), sender };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = T::deserialize(Strict { inner: &mut json, trail: &trail });
    read.and_then(|read| json.end().map(|()| read)).map_err(|error| {
        let why = error.to_string();
        let mut names = trail.names.into_inner();
        names.reverse();
        names.extend(field_of(&why).map(str::to_owned));
        Wrong { pointer: pointer(&names), why }
    })
}

/// The field that an error of the object around it is about.
fn field_of(why: &str) -> Option<&str> {
    let kinds = ["missing field `", "duplicate field `"];
    let rest = kinds.iter().find_map(|kind| why.strip_prefix(kind))?;
    rest.split('`').next()
}

fn pointer(names: &[String]) -> String {
    names.iter().fold(String::new(), |pointer, name| {
        pointer + "/" + &name.replace('~', "~0").replace('/', "~1")
    })
}

/// What is known of the document all the way through it.
#[derive(Debug)]
struct Trail {
    /// The names on the way to what is wrong, the innermost first: they are noted as an error passes.
    names: RefCell<Vec<String>>,
    sender: Sender,
}

impl Trail {
    fn note<T, E>(&self, result: Result<T, E>, name: impl FnOnce() -> String) -> Result<T, E> {
        result.inspect_err(|_| self.names.borrow_mut().push(name()))
    }
}

/// Something that gives values, or takes them, with all that is in them.
struct Strict<'t, T> {
    inner: T,
    trail: &'t Trail,
}

/// What a type has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Anything,
    WholeNumber,
    /// Of an object that has fields of its own.
    Fields,
    /// The name of such a field, or of a variant.
    Name,
}

/// Looks at what comes before a type sees it.
struct Checked<'t, V> {
    visitor: V,
    asked: Asked,
    trail: &'t Trail,
}

macro_rules! asked {
    ($($asked:ident: $($method:ident($($name:ident: $kind:ty),*))*;)*) => {$($(
        fn $method<V: Visitor<'de>>(self, $($name: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            let checked = Checked { visitor, asked: Asked::$asked, trail: self.trail };
            self.inner.$method($($name,)* checked)
        }
    )*)*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    asked! {
        WholeNumber:
            deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
            deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128();
        Name:
            deserialize_identifier();
        Fields:
            deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        Anything:
            deserialize_any() deserialize_bool() deserialize_f32() deserialize_f64()
            deserialize_char() deserialize_str() deserialize_string() deserialize_bytes()
            deserialize_byte_buf() deserialize_option() deserialize_unit() deserialize_seq()
            deserialize_map()
            deserialize_unit_struct(name: &'static str)
            deserialize_newtype_struct(name: &'static str)
            deserialize_tuple(length: usize)
            deserialize_tuple_struct(name: &'static str, length: usize)
            deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    /// What a reader passes over may be anything.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Strict { inner: from, trail: self.trail })
    }
}

impl<V> Checked<'_, V> {
    fn check_text<E: Error>(&self, text: &str) -> Result<(), E> {
        let is_checked = self.asked != Asked::Name && self.trail.sender == Sender::Person;
        if is_checked && text.contains('\0') {
            return Err(E::custom("a text with the character NUL, which no text here may have"));
        }
        Ok(())
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Checked<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked {
            // People who send JSON know no struct.
            Asked::Fields => f.write_str("an object"),
            _ => self.visitor.expecting(f),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.visitor.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        if self.trail.sender == Sender::Person && i64::try_from(value).is_err() {
            return Err(E::custom(format!("{value} is too large a number")));
        }
        self.visitor.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        let is_whole = value.fract() == 0.0 && value.abs() < EXACT_MAX;
        match self.asked {
            Asked::WholeNumber if is_whole && value >= 0.0 => self.visitor.visit_u64(value as u64),
            Asked::WholeNumber if is_whole => self.visitor.visit_i64(value as i64),
            _ => self.visitor.visit_f64(value),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.check_text(text)?;
        self.visitor.visit_str(text)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.check_text(text)?;
        self.visitor.visit_borrowed_str(text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        self.check_text(&text)?;
        self.visitor.visit_string(text)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict { inner: from, trail: self.trail })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Strict { inner: from, trail: self.trail })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        if self.asked == Asked::Fields {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        self.visitor.visit_seq(Items { inner: items, at: 0, trail: self.trail })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Fields { inner: fields, name: String::new(), trail: self.trail })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Strict { inner: variant, trail: self.trail })
    }
}

/// The items of a list.
struct Items<'t, A> {
    inner: A,
    at: usize,
    trail: &'t Trail,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let at = self.at;
        self.at += 1;
        let item = self.inner.next_element_seed(Strict { inner: seed, trail: self.trail });
        self.trail.note(item, || at.to_string())
    }
}

/// The fields of an object.
struct Fields<'t, A> {
    inner: A,
    /// Of the field whose value comes next.
    name: String,
    trail: &'t Trail,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(name) = self.inner.next_key::<String>()? else { return Ok(None) };
        let from = Strict { inner: name.as_str().into_deserializer(), trail: self.trail };
        let key = self.trail.note(seed.deserialize(from), || name.clone())?;
        self.name = name;
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let name = take(&mut self.name);
        let value = self.inner.next_value_seed(Strict { inner: seed, trail: self.trail });
        self.trail.note(value, || name)
    }
}

impl<'de, 't, A: EnumAccess<'de>> EnumAccess<'de> for Strict<'t, A> {
    type Error = A::Error;
    type Variant = Strict<'t, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Strict { inner: variant, trail: self.trail }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Strict { inner: seed, trail: self.trail })
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let checked = Checked { visitor, asked: Asked::Anything, trail: self.trail };
        self.inner.tuple_variant(length, checked)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let checked = Checked { visitor, asked: Asked::Fields, trail: self.trail };
        self.inner.struct_variant(fields, checked)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        all: Vec<Inner>,
        #[serde(default)]
        pairs: Vec<(String, String)>,
        #[serde(default)]
        named: BTreeMap<String, u8>,
        #[serde(default)]
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        size: u32,
        #[serde(default)]
        shift: i64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Sized { size: u32 },
    }

    fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Wrong> {
        super::read(text, Sender::Person)
    }

    fn wrong(text: &str) -> Wrong {
        read::<Outer>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn machines_may_have_larger_numbers() {
        let text = u64::MAX.to_string();
        assert!(read::<u64>(text.as_bytes()).is_err());
        assert_eq!(super::read::<u64>(text.as_bytes(), Sender::Machine), Ok(u64::MAX));
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, pointer) in [
            (r#"[]"#, ""),
            (r#"7"#, ""),
            (r#"{"name": "a"} {}"#, ""),
            (r#"{}"#, "/name"),
            (r#"{"name": 7}"#, "/name"),
            (r#"{"name": null}"#, "/name"),
            (r#"{"name": "a", "name": "b"}"#, "/name"),
            (r#"{"name": "a", "nme": 1}"#, "/nme"),
            (r#"{"name": "a", "a/b~": 1}"#, "/a~1b~0"),
            (r#"{"name": "a\u0000"}"#, "/name"),
            (r#"{"name": "a", "inner": {"size": -1}}"#, "/inner/size"),
            (r#"{"name": "a", "inner": {}}"#, "/inner/size"),
            (
                r#"{"name": "a", "inner": {"size": 1, "shift": 9223372036854775808}}"#,
                "/inner/shift",
            ),
            (r#"{"name": "a", "all": [{"size": 1}, {"size": 1.5}]}"#, "/all/1/size"),
            (r#"{"name": "a", "pairs": [["a", "b"], ["a"]]}"#, "/pairs/1"),
            (r#"{"name": "a", "named": {"x": 1, "y": 256}}"#, "/named/y"),
            (r#"{"name": "a", "named": {"\u0000": 1}}"#, "/named/\0"),
            (r#"{"name": "a", "kind": "round"}"#, "/kind"),
        ] {
            let wrong = wrong(text);
            assert_eq!(wrong.pointer, pointer, "{text}: {}", wrong.why);
        }
    }

    #[test]
    fn a_list_is_no_object() {
        for (text, pointer) in [
            (r#"["a"]"#, ""),
            (r#"{"name": "a", "inner": [1, 2]}"#, "/inner"),
            (r#"{"name": "a", "all": [[1, 2]]}"#, "/all/0"),
            (r#"{"name": "a", "kind": {"sized": [1]}}"#, "/kind"),
        ] {
            let wrong = wrong(text);
            assert_eq!(wrong.pointer, pointer, "{text}: {}", wrong.why);
            assert!(wrong.why.contains("sequence"), "{}", wrong.why);
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (text, size) in [("2", Some(2)), ("2.0", Some(2)), ("2e3", Some(2000)), ("2.5", None)] {
            let body = format!(r#"{{"name": "a", "inner": {{"size": {text}}}}}"#);
            let read = read::<Outer>(body.as_bytes()).ok();
            assert_eq!(read.map(|outer| outer.inner.unwrap().size), size, "{text}");
        }
        let negative = br#"{"name": "a", "inner": {"size": 1, "shift": -2.0}}"#;
        assert_eq!(read::<Outer>(negative).unwrap().inner.unwrap().shift, -2);
        assert_eq!(read::<f64>(b"2.0").unwrap(), 2.0);
    }

    #[test]
    fn depth_has_an_end() {
        for text in ["[".repeat(10_000), "{\"name\":".repeat(10_000)] {
            assert!(read::<serde_json::Value>(text.as_bytes()).is_err());
            assert!(read::<Outer>(text.as_bytes()).is_err());
        }
    }

    fn inner() -> impl Strategy<Value = Inner> {
        (any::<u32>(), any::<i64>()).prop_map(|(size, shift)| Inner { size, shift })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            name in "[^\0]{0,9}",
            inner in proptest::option::of(inner()),
            all in proptest::collection::vec(inner(), 0..3),
            pairs in proptest::collection::vec(("[a-z/~]{0,3}", "[a-z]{0,3}"), 0..3),
            named in proptest::collection::btree_map("[a-z/~]{0,3}", any::<u8>(), 0..3),
            size in proptest::option::of(any::<u32>()),
        ) {
            let kind = size.map(|size| if size % 2 == 0 { Kind::Plain } else { Kind::Sized { size } });
            let outer = Outer { name, inner, all, pairs, named, kind };
            let text = serde_json::to_vec(&outer).unwrap();
            prop_assert_eq!(read::<Outer>(&text), Ok(outer));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}|[\\[\\]{}\",:a-z0-9]{0,60}") {
            let _ = read::<Outer>(text.as_bytes());
            let _ = read::<serde_json::Value>(text.as_bytes());
        }
    }
}
