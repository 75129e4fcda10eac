//! The thread that does for one link what blocks: it looks up the host, reads the password's file, connects, and reads. It knows nothing of what is said.

use super::stream::{Place, Stream};
use crossbeam_channel::{Receiver, SendError, Sender, bounded, unbounded};
use fanfare_adapter::redis_tls::{RedisTls, Session};
use fanfare_adapter::sign_in::{Secret, SignIn, password};
use fanfare_core::broker::redis::Address;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// What is read at once.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// Reads that wait for the thread that owns the core. Then the link's thread waits, too, and Redis keeps what more there is.
const NEWS_MAX: usize = 16;

/// A connection that is wanted.
#[derive(Debug)]
pub(super) struct Attempt {
    /// What is told of it bears this number.
    pub(super) number: u64,
    pub(super) address: Address,
    /// How to sign in, where a password is to be read.
    pub(super) sign_in: Option<SignIn>,
    /// Which of the host's addresses is tried first: the one that was first before may take all the time and never answer.
    pub(super) first: usize,
    /// Nobody waits for it any longer.
    pub(super) deadline: Instant,
}

/// What is told of an attempt and of its connection.
#[derive(Debug)]
pub struct News {
    pub(super) number: u64,
    pub(super) what: What,
}

/// An established connection.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Arc<Stream>,
    /// It has been read, where it stands in a file.
    pub(super) password: Option<Secret>,
    /// Where TLS is spoken: a session that has yet to begin.
    pub(super) tls: Option<Box<Session>>,
}

#[derive(Debug)]
pub(super) enum What {
    /// It is established, and is being read.
    Connected(Opened),
    Read(Vec<u8>),
    /// It had taken less than it was given, and takes more.
    Writable,
    /// It has ended, or could not be established, and why, for people.
    Ended(String),
}

/// A link's thread.
struct Reader {
    tls: Option<RedisTls>,
    attempts: Receiver<Attempt>,
    news: Sender<News>,
}

/// The ends of a link's thread that are held by the one that owns the core.
#[derive(Debug)]
pub(super) struct Line {
    /// Does not wait: there are few attempts, since each follows the end of the last one, and a pause.
    pub(super) attempts: Sender<Attempt>,
    pub(super) news: Receiver<News>,
    /// For a thread that waits with [`await_writable`].
    pub(super) teller: Sender<News>,
}

/// Nobody is left to be told.
type Told = Result<(), SendError<News>>;

impl Line {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn open(tls: Option<RedisTls>) -> io::Result<Line> {
        let ((attempts, wanted), (teller, news)) = (unbounded(), bounded(NEWS_MAX));
        let reader = Reader { tls, attempts: wanted, news: teller.clone() };
        let run = move || drop(reader.run());
        thread::Builder::new().name("fanfare-redis".to_owned()).spawn(run)?;
        Ok(Line { attempts, news, teller })
    }
}

/// Starts a thread that tells once when a connection takes more.
pub(super) fn await_writable(number: u64, stream: Arc<Stream>, teller: Sender<News>) -> io::Result<()> {
    let run = move || {
        stream.wait_until_writable();
        // Nobody listens any more where the server has ended.
        let _ = teller.send(News { number, what: What::Writable });
    };
    thread::Builder::new().name("fanfare-wait".to_owned()).spawn(run).map(drop)
}

impl Reader {
    fn run(&self) -> Told {
        while let Ok(attempt) = self.attempts.recv() {
            let (attempt, places) = self.look_up(attempt, Place::of);
            let reason = match self.open(&attempt, places) {
                Err(reason) => reason,
                Ok(opened) => self.read(attempt.number, opened)?,
            };
            self.tell(attempt.number, What::Ended(reason))?;
        }
        Ok(())
    }

    /// Looks up where the last attempt is to lead: those before it are over. An answer that takes longer than an attempt lasts is good
    /// for the next one, unless that leads elsewhere.
    fn look_up(
        &self,
        mut attempt: Attempt,
        look_up: impl Fn(&Address) -> io::Result<Vec<Place>>,
    ) -> (Attempt, io::Result<Vec<Place>>) {
        let mut places = look_up(&attempt.address);
        while let Some(next) = self.attempts.try_iter().last() {
            if next.address != attempt.address {
                places = look_up(&next.address);
            }
            attempt = next;
        }
        (attempt, places)
    }

    /// Reads until the end, and says why it came. Where what was read is not taken, it waits, and so, once the kernel's buffers are full,
    /// does Redis.
    fn read(&self, number: u64, opened: Opened) -> Result<String, SendError<News>> {
        let stream = Arc::clone(&opened.stream);
        self.tell(number, What::Connected(opened))?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok("it closed the connection".to_owned()),
                Ok(bytes) => self.tell(number, What::Read(buffer[..bytes].to_vec()))?,
                Err(error) => return Ok(error.to_string()),
            }
        }
    }

    /// Connects. The error is why it cannot be done, for people.
    fn open(&self, attempt: &Attempt, places: io::Result<Vec<Place>>) -> Result<Opened, String> {
        let password = password(&attempt.sign_in)?;
        let dialer = self.tls.as_ref().map(|tls| tls.dialer(&attempt.address)).transpose()?;
        let stream = Arc::new(connect(attempt, places)?);
        let tls = dialer.map(|dialer| dialer.session()).transpose()?.map(Box::new);
        Ok(Opened { stream, password, tls })
    }

    fn tell(&self, number: u64, what: What) -> Told {
        self.news.send(News { number, what })
    }
}

/// Tries one place after the other, and gives each all the time that is left. The error says why none can be reached, without any address:
/// `/readyz` is for everyone.
fn connect(attempt: &Attempt, places: io::Result<Vec<Place>>) -> Result<Stream, String> {
    let mut places = places.map_err(|error| format!("cannot resolve its host: {error}"))?;
    let first = attempt.first % places.len().max(1);
    places.rotate_left(first);
    let mut reason = "the host has no address".to_owned();
    for place in places {
        let left = attempt.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("cannot connect: its time is up".to_owned());
        }
        match Stream::connect(&place, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = format!("cannot connect: {error}"),
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::time::Duration;

    fn attempt(number: u64, host: &str) -> Attempt {
        let address = Address::Tcp { host: host.to_owned(), port: 6379 };
        Attempt { number, address, sign_in: None, first: 0, deadline: Instant::now() + Duration::from_secs(60) }
    }

    /// While the first host is looked up, these other attempts come: which one goes on, and which hosts were looked up.
    fn looked_up(others: &[(u64, &str)]) -> (u64, Vec<String>) {
        let ((attempts, wanted), (news, _told)) = (unbounded(), bounded(1));
        let (reader, hosts) = (Reader { tls: None, attempts: wanted, news }, RefCell::new(Vec::new()));
        let look_up = |address: &Address| {
            let Address::Tcp { host, .. } = address else { unreachable!("there are only these") };
            if hosts.borrow().is_empty() {
                for (number, host) in others {
                    attempts.send(attempt(*number, host)).unwrap();
                }
            }
            hosts.borrow_mut().push(host.clone());
            Ok(Vec::new())
        };
        let (attempt, _) = reader.look_up(attempt(1, "redis"), look_up);
        (attempt.number, hosts.into_inner())
    }

    #[test]
    fn an_answer_slower_than_an_attempt_serves_the_last_one() {
        assert_eq!(looked_up(&[(2, "redis"), (3, "redis")]), (3, vec!["redis".to_owned()]));
    }

    #[test]
    fn an_answer_for_one_host_serves_no_attempt_to_reach_another() {
        assert_eq!(looked_up(&[(2, "other")]), (2, vec!["redis".to_owned(), "other".to_owned()]));
    }

    #[test]
    fn each_address_is_tried_and_each_attempt_begins_with_another() {
        let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [one, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let places = |addresses: &[SocketAddr]| Ok(addresses.iter().copied().map(Place::Tcp).collect());
        let reached = |first: usize, addresses: &[SocketAddr]| match connect(
            &Attempt { first, ..attempt(1, "redis") },
            places(addresses),
        )
        .unwrap()
        {
            Stream::Tcp(stream) => stream.peer_addr().unwrap(),
            Stream::Unix(_) => unreachable!("they are no files"),
        };
        assert_eq!([0, 1, 2].map(|first| reached(first, &[one, other])), [one, other, one]);
        drop(listeners);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let last = listener.local_addr().unwrap();
        assert_eq!(reached(0, &[one, other, last]), last);
    }
}
