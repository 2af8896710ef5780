//! Asks the kernel's routing tables, over rtnetlink: the unit of spad makes no
//! Internet sockets, and nothing is to be sent.

use std::io;
use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

// linux/netlink.h, linux/rtnetlink.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const HEADER_LEN: usize = 16;
const ROUTE_LEN: usize = 12;
const ATTRIBUTE_LEN: usize = 4;

/// Whether there is a route to this address.
///
/// # Errors
/// As the system says it where there is none.
pub(crate) fn look_up(address: IpAddr) -> io::Result<()> {
    // Protocol 0 of netlink is rtnetlink.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    send(&socket, &question(address), SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    refusal(answer.get(..len).unwrap_or(&answer)).map_or(Ok(()), Err)
}

fn question(address: IpAddr) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let len = |bytes: usize| u16::try_from(bytes).unwrap_or_default();
    let attribute = ATTRIBUTE_LEN + bytes.len();
    let mut message = Vec::new();
    message.extend(u32::from(len(HEADER_LEN + ROUTE_LEN + attribute)).to_ne_bytes());
    message.extend(RTM_GETROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender: there is one question, and the kernel knows whose.
    message.extend([0; 8]);
    let [family, _] = family.as_raw().to_le_bytes();
    let bits = len(bytes.len() * 8).to_le_bytes()[0];
    message.extend([family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(len(attribute).to_ne_bytes());
    message.extend(RTA_DST.to_ne_bytes());
    message.extend(bytes);
    message
}

/// The error in an answer, if it is one.
fn refusal(answer: &[u8]) -> Option<io::Error> {
    let kind = answer.get(4..6).and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)));
    match kind {
        Some(NLMSG_ERROR) => {
            let error = answer.get(HEADER_LEN..HEADER_LEN + 4)?.try_into().ok()?;
            Some(io::Error::from_raw_os_error(-i32::from_ne_bytes(error)))
        }
        Some(_) => None,
        None => Some(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_way_to_this_host_itself() {
        look_up("127.0.0.1".parse().unwrap()).unwrap();
    }

    #[test]
    fn an_error_is_told_and_a_route_is_none() {
        let answer = |kind: u16, code: i32| {
            let mut answer = vec![0; HEADER_LEN];
            answer[4..6].copy_from_slice(&kind.to_ne_bytes());
            answer.extend(code.to_ne_bytes());
            answer
        };
        let refused = refusal(&answer(NLMSG_ERROR, -101)).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::NetworkUnreachable);
        assert!(refusal(&answer(24, -101)).is_none());
        assert!(refusal(&[]).is_some());
    }
}
