//! The sockets that hear knocks, as the gatekeeper has them: on the real kernel.

#![allow(clippy::unwrap_used)]

mod firewall_lab;

use std::os::fd::{AsRawFd, OwnedFd};

use firewall_lab::{Host, KNOCK_PORT, isolated};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use nix::{setsockopt_impl, sockopt_impl};
use spad::capture::{Family, filter, socket};
use spad::sys::packet;

sockopt_impl!(Detach, SetOnly, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, bool);
sockopt_impl!(Lock, SetOnly, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, bool);

/// Whoever has taken over the gatekeeper has these sockets: what else comes to this host stays
/// hidden from them too.
#[test]
fn the_filter_is_there_and_cannot_be_taken_off_or_changed() {
    isolated("the_filter_is_there_and_cannot_be_taken_off_or_changed", || {
        Host::new().run(|| {
            for family in Family::BOTH {
                let socket = socket::open(family, KNOCK_PORT, None).unwrap();
                assert_eq!(setsockopt(&socket, Detach, &true), Err(Errno::EPERM), "{family:?}");
                assert_eq!(setsockopt(&socket, Lock, &false), Err(Errno::EPERM), "{family:?}");
                let other = filter::program(family, 53, None);
                let replaced = packet::attach_filter(&socket, &other);
                assert_eq!(replaced.unwrap_err().raw_os_error(), Some(libc::EPERM), "{family:?}");
            }
            control();
        });
    });
}

/// Without a lock all of it can be done, once there is a filter to take off.
fn control() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None).unwrap();
    assert_eq!(setsockopt(&socket, Detach, &true), Err(Errno::ENOENT));
    packet::attach_filter(&socket, &filter::program(Family::V4, KNOCK_PORT, None)).unwrap();
    assert_eq!(setsockopt(&socket, Detach, &true), Ok(()));
}

/// Of all datagrams that come, only those of a knock's length to its port.
#[test]
fn nothing_but_what_may_be_a_knock_is_heard() {
    isolated("nothing_but_what_may_be_a_knock_is_heard", || {
        Host::new().run(|| {
            let socket = socket::open(Family::V4, KNOCK_PORT, None).unwrap();
            let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            for (length, port) in
                [(336, KNOCK_PORT + 1), (335, KNOCK_PORT), (337, KNOCK_PORT), (336, KNOCK_PORT)]
            {
                sender.send_to(&vec![7; length], ("127.0.0.1", port)).unwrap();
            }
            let mut packet = [0; 2048];
            let mut heard = || recv(socket.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT);
            // With the headers of IP and UDP.
            assert_eq!(heard(), Ok(336 + 28));
            assert_eq!(heard(), Err(Errno::EAGAIN), "and nothing else");
        });
    });
}
