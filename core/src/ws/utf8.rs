//! Streaming UTF-8 validation: text that cannot become valid is refused at its first wrong byte.

use crate::error::Violation;

/// The beginning of a code point whose other bytes have not come yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    pending: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Checks the next bytes of the text.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.pending[self.len as usize] = byte;
            self.len += 1;
            match std::str::from_utf8(&self.pending[..self.len as usize]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
                Err(_) => {}
            }
        }
        if let Err(error) = std::str::from_utf8(bytes) {
            if error.error_len().is_some() {
                return Err(Violation::NotUtf8);
            }
            let tail = &bytes[error.valid_up_to()..];
            self.pending[..tail.len()].copy_from_slice(tail);
            self.len = tail.len() as u8;
        }
        Ok(())
    }

    /// Whether the text may end here.
    pub fn finish(&self) -> Result<(), Violation> {
        if self.len == 0 { Ok(()) } else { Err(Violation::NotUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether some continuation makes `bytes` valid, found by trying.
    fn can_become_valid(bytes: &[u8]) -> bool {
        let continuations: [&[u8]; 7] =
            [&[], &[0x80], &[0xa0, 0x80], &[0x80, 0x80], &[0x90, 0x80, 0x80], &[0x80, 0x80, 0x80], &[0xa0]];
        continuations.iter().any(|more| std::str::from_utf8(&[bytes, more].concat()).is_ok())
    }

    fn nearly_utf8() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            prop::sample::select(vec![
                vec![0xed, 0xa0, 0x80],
                vec![0xf4, 0x90],
                vec![0xc0, 0xaf],
                vec![0xe0, 0x80],
                vec![0xff],
                vec![0xf0, 0x9f]
            ]),
        ];
        prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn refuses_at_the_first_byte_that_cannot_be_mended(bytes in nearly_utf8()) {
            let mut state = Utf8::default();
            for (i, byte) in bytes.iter().enumerate() {
                let refused = state.push(&[*byte]).is_err();
                prop_assert_eq!(refused, !can_become_valid(&bytes[..=i]), "at {}", i);
                if refused {
                    return Ok(());
                }
            }
            prop_assert_eq!(state.finish().is_ok(), std::str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn any_split_gives_the_same_verdict(bytes in nearly_utf8(), cut in any::<prop::sample::Index>()) {
            let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut state = Utf8::default();
            let verdict = state.push(left).and_then(|()| state.push(right)).and_then(|()| state.finish());
            prop_assert_eq!(verdict.is_ok(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
