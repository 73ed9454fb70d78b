//! Owns the way from a task's network to this machine's servers: the same `127.0.0.1:port` inside as outside.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens on each of `ports` in the network of the process `pid`, and passes every connection on to this machine's. Ends
/// when the set is dropped.
///
/// # Errors
/// Without root nobody enters another network.
pub(super) fn relay(pid: i64, ports: &[u16]) -> io::Result<JoinSet<()>> {
    let mut relays = JoinSet::new();
    for (port, listener) in ports.iter().zip(listen_in(pid, ports)?) {
        relays.spawn(pass_on(TcpListener::from_std(listener)?, *port));
    }
    Ok(relays)
}

/// A thread enters the network and binds; its sockets stay there when it has ended.
fn listen_in(pid: i64, ports: &[u16]) -> io::Result<Vec<StdListener>> {
    let ports = ports.to_vec();
    let thread = std::thread::spawn(move || {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        let bind = |port: &u16| {
            let listener = StdListener::bind((Ipv4Addr::LOCALHOST, *port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        ports.iter().map(bind).collect()
    });
    thread.join().map_err(|_| io::Error::other("listening in a task's network"))?
}

async fn pass_on(listener: TcpListener, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut inside, _)) = accepted else {
                    // No more files may be open now.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                connections.spawn(async move {
                    // A connection that breaks on either side is closed on the other, which is all there is to tell.
                    if let Ok(mut outside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                        let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
