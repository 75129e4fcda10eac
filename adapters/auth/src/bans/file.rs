//! Bans in a file, for servers without Redis: a JSON text on each line.
//! It is replaced as a whole, so that a reader finds the old list or the new one, and never half of one.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::bans::text::{ban_in, line_of};
use crate::bans::{BANS_MAX, Ban, BanError, BanList, BanStore, BanVersion, Banned, UNTIL_MS_MAX, check_name};

/// Of a file that is read. Names of users at their longest, each byte escaped, would fit.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bans in a file. One that is not there holds none.
#[derive(Debug)]
pub struct FileBans {
    path: PathBuf,
}

impl FileBans {
    /// The bans in this file. Two more stand beside it while it is written, `.lock` and `.new`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path with this after it.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    /// Reads, changes and writes the bans, as the only one that does.
    fn change<R>(&self, now_ms: u64, change: impl FnOnce(&mut Vec<Ban>) -> Result<R, BanError>) -> Result<R, BanError> {
        let lock = File::create(self.beside(".lock")).map_err(unavailable)?;
        lock.lock().map_err(unavailable)?;
        let mut list = self.list(now_ms)?;
        if list.unreadable > 0 {
            return Err(BanError::Unreadable);
        }
        let outcome = change(&mut list.bans)?;
        self.write(&list.bans).map_err(unavailable)?;
        Ok(outcome)
    }

    fn write(&self, bans: &[Ban]) -> io::Result<()> {
        let text: String = bans.iter().map(|ban| line_of(ban) + "\n").collect();
        let new = self.beside(".new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, &self.path)?;
        // The name of a file stands in its folder.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl BanStore for FileBans {
    fn version(&self) -> Result<BanVersion, BanError> {
        match fs::metadata(&self.path) {
            // The number of the file tells two of one length apart that were written within one tick of the clock.
            Ok(file) => {
                let text = format!("{}.{:09} {} {}", file.mtime(), file.mtime_nsec(), file.len(), file.ino());
                Ok(BanVersion::Text(text))
            }
            // Whoever lifts the last ban leaves an empty file.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BanVersion::Unwritten),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn list(&self, now_ms: u64) -> Result<BanList, BanError> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unavailable)?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(unavailable(error)),
        };
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(BanError::TooMany);
        }
        let mut list = BanList::default();
        for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            match ban_in(line) {
                Some(ban) if ban.until_ms > now_ms => list.bans.push(ban),
                Some(_) => {}
                None => list.unreadable += 1,
            }
        }
        if list.bans.len() > BANS_MAX { Err(BanError::TooMany) } else { Ok(list) }
    }

    fn ban(&self, ban: &Ban, now_ms: u64) -> Result<(), BanError> {
        check_name(&ban.what)?;
        let ban = Ban { what: ban.what.clone(), until_ms: ban.until_ms.min(UNTIL_MS_MAX) };
        self.change(now_ms, |bans| {
            bans.retain(|other| other.what != ban.what);
            if bans.len() == BANS_MAX {
                return Err(BanError::TooMany);
            }
            bans.push(ban);
            Ok(())
        })
    }

    fn unban(&self, what: &Banned, now_ms: u64) -> Result<bool, BanError> {
        self.change(now_ms, |bans| {
            let before = bans.len();
            bans.retain(|ban| ban.what != *what);
            Ok(bans.len() < before)
        })
    }
}

fn unavailable(error: io::Error) -> BanError {
    BanError::Unavailable(error.to_string())
}
