//! The grammar of JSON (RFC 8259) and nothing else: no values, no limits. An oracle that shares no code with `serde_json`,
//! which reads less than the grammar allows: numbers beyond a double, half surrogate pairs, and depths beyond 128 are no
//! values to it, and yet JSON.

/// Whether this is one JSON text.
pub(super) fn is_json(text: &[u8]) -> bool {
    let mut reader = Reader { rest: text };
    std::str::from_utf8(text).is_ok() && reader.value().is_some() && reader.rest.is_empty()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// A value and the space around it, with a list of the open brackets in place of recursion.
    fn value(&mut self) -> Option<()> {
        let mut closers = Vec::new();
        'value: loop {
            self.space();
            match self.rest {
                [b'{', ..] => {
                    self.take(b"{")?;
                    self.space();
                    if !self.skip(b'}') {
                        closers.push(b'}');
                        self.key()?;
                        continue;
                    }
                }
                [b'[', ..] => {
                    self.take(b"[")?;
                    self.space();
                    if !self.skip(b']') {
                        closers.push(b']');
                        continue;
                    }
                }
                [b'"', ..] => self.string()?,
                [b't', ..] => self.take(b"true")?,
                [b'f', ..] => self.take(b"false")?,
                [b'n', ..] => self.take(b"null")?,
                _ => self.number()?,
            }
            loop {
                self.space();
                let Some(closer) = closers.last() else { return Some(()) };
                if self.skip(*closer) {
                    closers.pop();
                    continue;
                }
                self.take(b",")?;
                if *closer == b'}' {
                    self.space();
                    self.key()?;
                }
                continue 'value;
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.take(b":")
    }

    fn string(&mut self) -> Option<()> {
        self.take(b"\"")?;
        loop {
            match self.rest {
                [b'"', ..] => return self.take(b"\""),
                [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => {
                    self.rest = rest;
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => self.rest = rest,
                [b'\\' | ..0x20, ..] | [] => return None,
                [_, rest @ ..] => self.rest = rest,
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[digits..];
        (digits > 0).then_some(())
    }

    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(found)..];
        found
    }

    fn take(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn the_grammar_is_that_of_the_rfc() {
        let good = [
            "null",
            " true ",
            "-0.5e+10",
            "1e999",
            "[]",
            "{}",
            "[ 1 , {\"a\" : [ ] } ]",
            r#""\ud800 \n\/""#,
            "{\"\":0,\"\":0}",
        ];
        let bad = [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "nul",
            "[1,]",
            "[,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{1:2}",
            "[1}",
            "\"\u{1}\"",
            r#""\x""#,
            r#""\u12g4""#,
            "\"",
            "[",
            "1 2",
            "\u{a0}1",
            "]",
        ];
        for text in good {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        for text in bad {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(is_json("[".repeat(10_000).as_bytes()) != is_json(&[[b'['; 10_000], [b']'; 10_000]].concat()));
        assert!(!is_json(b"\"\xff\""));
    }
}
