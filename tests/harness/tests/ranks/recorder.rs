//! Somebody on the way who writes down what passes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What passed on one connection.
#[derive(Debug)]
pub(crate) struct Recording {
    /// What the dialler sent.
    pub(crate) asked: Vec<u8>,
    /// What it got.
    pub(crate) answered: Vec<u8>,
}

/// Listens, passes the first connection on to `to`, and gives what passed when both sides are through.
pub(crate) fn record(to: SocketAddr) -> (SocketAddr, JoinHandle<Recording>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let dialler = listener.accept().unwrap().0;
        let root = connect(to);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| pass_on(&dialler, &root));
            let answered = pass_on(&root, &dialler);
            Recording { asked: asking.join().unwrap(), answered }
        })
    });
    (here, thread)
}

/// Connects to a place where somebody will listen soon.
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpStream::connect(to) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{to}: {error}"),
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream) -> Vec<u8> {
    let mut passed = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        passed.extend_from_slice(&piece[..length]);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
    passed
}

/// Sends bytes, and then no more. What comes back may be read at the end, when the other side is gone.
pub(crate) fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    // It may be closed before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    stream
}

/// What came back until the other side was gone.
pub(crate) fn answer(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut got = Vec::new();
    // A connection that is reset has an end, too.
    let _ = stream.read_to_end(&mut got);
    got
}
