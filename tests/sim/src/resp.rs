//! RESP as a server speaks it, apart from the code under test: commands in, replies out.

/// A command's words, and its length.
type Command<'a> = (Vec<&'a [u8]>, usize);

/// Takes one command off the front of `input`: its words and its length, `None` if it is not whole yet.
///
/// # Errors
/// If it is no array of bulk strings.
pub fn command(input: &[u8]) -> Result<Option<Command<'_>>, String> {
    let mut at = 0;
    let Some(words) = number(input, &mut at, b'*')? else { return Ok(None) };
    let mut command = Vec::with_capacity(words);
    for _ in 0..words {
        let Some(length) = number(input, &mut at, b'$')? else { return Ok(None) };
        let Some(word) = input.get(at..at + length + 2) else { return Ok(None) };
        if !word.ends_with(b"\r\n") {
            return Err("a bulk string does not end where it said".to_owned());
        }
        command.push(&word[..length]);
        at += length + 2;
    }
    Ok(Some((command, at)))
}

fn number(input: &[u8], at: &mut usize, kind: u8) -> Result<Option<usize>, String> {
    let rest = &input[*at..];
    let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.strip_prefix(kind as char));
    let number = text.and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| format!("not RESP: {:?}", String::from_utf8_lossy(&rest[..end])))?;
    *at += end + 2;
    Ok(Some(number))
}

/// Appends a bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("${}\r\n", bytes.len()).into_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, number: usize) {
    out.extend(format!(":{number}\r\n").into_bytes());
}

/// Appends the head of what is pushed: an array before RESP3.
pub fn push(out: &mut Vec<u8>, resp3: bool, items: usize) {
    out.extend(format!("{}{items}\r\n", if resp3 { '>' } else { '*' }).into_bytes());
}
