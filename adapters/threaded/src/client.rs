//! A client's socket, from the thread that accepts it to the last of the threads that use it.

use crate::gate::Place;
use std::net::TcpStream;

/// A connection's socket and its place, which is free again when the descriptor is.
#[derive(Debug)]
pub struct Client {
    /// The socket, which blocks.
    pub stream: TcpStream,
    _place: Place,
}

impl Client {
    /// A connection that has been accepted, and given a place.
    pub fn new(stream: TcpStream, place: Place) -> Client {
        Client { stream, _place: place }
    }
}
