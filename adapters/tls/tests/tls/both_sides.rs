//! A client's and a server's session, and what is on the way between them.

use crate::material::{Authority, Folder};
use fanfare_tls::{Acceptor, Connector, Progress, Session, Trust, Version};
use std::io;

/// A pair of sessions whose handshake has yet to begin.
pub struct BothSides {
    pub client: Session,
    pub server: Session,
    pub acceptor: Acceptor,
    pub connector: Connector,
    _folder: Folder,
}

impl BothSides {
    pub fn new(version_min: Version) -> BothSides {
        let (folder, authority) = (Folder::new(), Authority::new());
        let pair = folder.pair("server", authority.signs(&["localhost"]));
        let acceptor = Acceptor::load(&[pair], version_min).unwrap();
        let connector = Connector::new(&Trust::CaFile(folder.file("ca.pem", &authority.pem()))).unwrap();
        let (client, server) = (connector.session("localhost".try_into().unwrap()).unwrap(), acceptor.session());
        BothSides { client, server, acceptor, connector, _folder: folder }
    }

    pub fn open(version_min: Version) -> BothSides {
        let mut sides = BothSides::new(version_min);
        assert_eq!(sides.settle(), ("".into(), "".into()));
        assert!(!sides.client.is_handshaking() && !sides.server.is_handshaking());
        sides
    }

    /// Begins anew, by the same two that know each other.
    pub fn reconnect(&mut self) {
        self.client = self.connector.session("localhost".try_into().unwrap()).unwrap();
        self.server = self.acceptor.session();
    }

    /// Carries everything to and fro until nobody has anything to say. Returns what the client heard, and what the server heard.
    pub fn settle(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        loop {
            let (up, down) = (said(&mut self.client), said(&mut self.server));
            if up.is_empty() && down.is_empty() {
                return (to_client, to_server);
            }
            hear(&mut self.server, up, &mut to_server);
            hear(&mut self.client, down, &mut to_client);
        }
    }
}

/// What the session has to say.
pub fn said(session: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(piece.len())
    };
    assert!(session.flush(put).unwrap());
    bytes
}

pub fn hear(session: &mut Session, mut bytes: Vec<u8>, plaintext: &mut Vec<u8>) -> Progress {
    if bytes.is_empty() { Progress::Open } else { session.read(&mut bytes, plaintext) }
}

/// A socket that takes so many bytes, and then no more until it is drained.
#[derive(Debug, Default)]
pub struct Pipe {
    pub bytes: Vec<u8>,
    pub room: usize,
}

impl Pipe {
    pub fn put(&mut self, piece: &[u8]) -> io::Result<usize> {
        let taken = piece.len().min(self.room);
        if taken == 0 && !piece.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.bytes.extend_from_slice(&piece[..taken]);
        Ok(taken)
    }
}
