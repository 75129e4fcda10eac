//! JSON that is read before anybody has been trusted: a bound on its depth, and no member twice.
//! Of two equal members parsers take the first or the last, so two programs could read two meanings into one signed text (RFC 8725 §2.4).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The object that this text is, nested no deeper than `depth_max` with itself counted.
pub(crate) fn object(text: &[u8], depth_max: usize) -> Result<Map<String, Value>, Refusal> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth_left: depth_max }.deserialize(&mut parser);
    match value {
        Ok(Value::Object(object)) if parser.end().is_ok() => Ok(object),
        _ => Err(Refusal::Malformed),
    }
}

/// A value that may open so many more objects or arrays within each other.
#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_by_serde_json() {
        let text = br#"{"a":[1,-2,3.5,true,null,"\u0000x"],"b":{"c":{}}}"#;
        assert_eq!(Value::Object(object(text, 3).unwrap()), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_wherever_it_stands_and_however_it_is_written() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":[{"b":1,"c":2,"b":3}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(object(text.as_bytes(), 9), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_exactly() {
        assert!(object(br#"{"a":[{"b":1}]}"#, 3).is_ok());
        assert_eq!(object(br#"{"a":[{"b":1}]}"#, 2), Err(Refusal::Malformed));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(object(deep.as_bytes(), 8), Err(Refusal::Malformed));
    }

    #[test]
    fn what_is_no_object_or_goes_on_after_it_is_refused() {
        for text in ["", "1", "[]", "{} {}", "{", "{\"a\":1}x", "{\"a\":\"\\ud800\"}"] {
            assert_eq!(object(text.as_bytes(), 9), Err(Refusal::Malformed), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", 9), Err(Refusal::Malformed));
    }
}
