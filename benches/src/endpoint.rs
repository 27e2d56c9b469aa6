//! The other end of what sends over HTTP: [`endpoint`].

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A server on loopback that answers every `POST` with 200 and what `answer` makes of its body. It reads requests with a
/// `content-length`, one after the other on each connection, and runs on threads of its own until the process ends.
///
/// # Panics
///
/// Where loopback has no free port.
pub fn endpoint(answer: fn(&[u8]) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // An error is the end of a connection.
            thread::spawn(move || serve(socket, answer));
        }
    });
    address
}

fn serve(mut socket: TcpStream, answer: fn(&[u8]) -> String) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|it| it.parse().ok()).unwrap_or(0);
        let body = end + 4..end + 4 + length;
        if request.len() < body.end {
            continue;
        }
        let text = answer(&request[body]);
        request.clear();
        let length = text.len();
        write!(
            socket,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{text}"
        )?;
    }
}
