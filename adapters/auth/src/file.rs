//! Files that the operator names: keys, secrets, certificates. What they hold is in no error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Far more than keys and certificates take; keeps a wrong path, such as a device, from filling the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All of a file, of at most 1 MiB. The error names it.
pub fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if length as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(|error| format!("cannot read {}: {error}", shown(path)))
}

/// A path in a message of one line.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// What a file with one secret holds: editors end its line.
pub fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}
