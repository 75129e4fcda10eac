//! TLS between clients' sockets and the core: a link for each socket, by slot, where there is a certificate. Plain sockets have none of
//! it, and pay one look at an option.

use fanfare_adapter::tls::{Link, Progress, Tls};
use mio::net::TcpStream;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown};

/// All links, and what they share.
#[derive(Debug)]
pub struct Links {
    tls: Tls,
    slots: Vec<Option<Box<Link>>>,
    /// What the last read held. It is handed to the core at once, so no plaintext waits here.
    plaintext: Vec<u8>,
    /// Where a record is encrypted before the socket gets it.
    record: Vec<u8>,
}

/// What became of bytes that a socket gave.
#[derive(Debug)]
pub struct Decrypted<'a> {
    /// For the core, if it is not empty.
    pub plaintext: &'a mut [u8],
    /// Nothing more comes of the peer.
    pub is_closed: bool,
}

impl Links {
    /// None yet.
    pub fn new(tls: Tls) -> Links {
        Links { tls, slots: Vec::new(), plaintext: Vec::new(), record: Vec::new() }
    }

    /// For a new connection from this address.
    pub fn insert(&mut self, slot: usize, peer: IpAddr) {
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(Box::new(self.tls.link(peer)));
    }

    /// Whether the next bytes of this connection may cost a signature.
    pub fn is_handshaking(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|link| link.is_handshaking())
    }

    /// Whether nothing more comes of the peer, though its socket has not ended.
    pub fn is_closed(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|link| link.is_closed())
    }

    /// Takes what the socket gave, and answers it where the protocol wants that.
    pub fn read(&mut self, slot: usize, stream: &TcpStream, incoming: &mut [u8]) -> Decrypted<'_> {
        self.plaintext.clear();
        let Some(link) = &mut self.slots[slot] else { return Decrypted { plaintext: &mut [], is_closed: true } };
        let progress = link.read(incoming, &mut self.plaintext);
        // If it fails, the next read tells.
        let _ = link.flush(put(stream));
        Decrypted { plaintext: &mut self.plaintext, is_closed: progress != Progress::Open }
    }

    /// Writes once or several times: how much was taken, or `None` if the socket or the session failed.
    pub fn write(&mut self, slot: usize, stream: &TcpStream, bytes: &[u8]) -> Option<usize> {
        self.slots[slot].as_mut()?.write(bytes, &mut self.record, put(stream)).ok()
    }

    /// Gives the socket what it had not taken. Returns whether it takes more.
    pub fn flush(&mut self, slot: usize, stream: &TcpStream) -> bool {
        let Some(link) = &mut self.slots[slot] else { return true };
        // If it fails, the next write tells.
        let is_flushed = link.flush(put(stream)).unwrap_or(true);
        if link.is_shut() {
            // Fails only where the peer has gone, of which reading will tell.
            let _ = stream.shutdown(Shutdown::Write);
        }
        is_flushed
    }

    /// Tells the peer that nothing more is said. The FIN follows when the socket has taken everything.
    pub fn shut(&mut self, slot: usize, stream: &TcpStream) {
        if let Some(link) = &mut self.slots[slot] {
            link.shut();
        }
        self.flush(slot, stream);
    }

    /// The same for a connection that is closed: it is not waited for.
    pub fn remove(&mut self, slot: usize, stream: &TcpStream) {
        if let Some(mut link) = self.slots[slot].take() {
            link.say_goodbye(stream, put(stream));
        }
    }
}

/// Writes once, whatever interrupts it.
fn put(mut stream: &TcpStream) -> impl FnMut(&[u8]) -> io::Result<usize> {
    move |bytes| {
        loop {
            match stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }
}
