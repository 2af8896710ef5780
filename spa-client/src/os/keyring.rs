//! A place for secrets that is in memory only (but hibernation and crash dumps
//! write all of it): the kernel's keyring of this user, where there is one. What
//! is there ends on its time, or with the user's last session.

#[cfg(target_os = "linux")]
pub(crate) use linux::{forget, keep, kept};

#[cfg(not(target_os = "linux"))]
pub(crate) use nowhere::{forget, keep, kept};

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    use linux_keyutils::{
        Key, KeyError, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission,
    };
    use zeroize::Zeroizing;

    fn ring() -> Result<KeyRing, KeyError> {
        KeyRing::from_special_id(KeyRingIdentifier::User, false)
    }

    fn find(name: &str) -> Option<Key> {
        ring().and_then(|ring| ring.search(name)).ok()
    }

    /// Keeps a secret for this long.
    pub(crate) fn keep(name: &str, secret: &[u8], time: Duration) -> Result<(), String> {
        let seconds =
            u32::try_from(time.as_secs()).map_err(|_| "longer than the kernel keeps anything")?;
        let key = ring().and_then(|ring| ring.add_key(name, secret)).map_err(told)?;
        limit(key, seconds).map_err(|error| {
            // It must not stay for longer than was wanted.
            let _ = key.invalidate();
            told(error)
        })
    }

    /// The other programs of this user may read it, as they may read the files; in its time.
    fn limit(key: Key, seconds: u32) -> Result<(), KeyError> {
        key.set_timeout(usize::try_from(seconds).map_err(|_| KeyError::InvalidArguments)?)?;
        let user = Permission::VIEW | Permission::READ | Permission::SEARCH | Permission::SETATTR;
        key.set_perms(KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(user).build())
    }

    fn told(error: KeyError) -> String {
        format!("the kernel's keyring refuses it: {error}")
    }

    /// What is kept under a name.
    pub(crate) fn kept(name: &str) -> Option<Zeroizing<Vec<u8>>> {
        find(name)?.read_to_vec().ok().map(Zeroizing::new)
    }

    /// Whether there was something to forget.
    pub(crate) fn forget(name: &str) -> bool {
        find(name).is_some_and(|key| key.invalidate().is_ok())
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::time::Duration;

    use zeroize::Zeroizing;

    pub(crate) fn keep(_: &str, _: &[u8], _: Duration) -> Result<(), String> {
        Err("this system has no place for it: the passphrase is asked for each time".into())
    }

    pub(crate) fn kept(_: &str) -> Option<Zeroizing<Vec<u8>>> {
        None
    }

    pub(crate) fn forget(_: &str) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keeps_and_forgets() {
        let name = format!("spa:test:{}", std::process::id());
        assert!(kept(&name).is_none());
        keep(&name, b"secret", Duration::from_secs(60)).unwrap();
        assert_eq!(kept(&name).unwrap().as_slice(), b"secret");
        keep(&name, b"another", Duration::from_secs(60)).unwrap();
        assert_eq!(kept(&name).unwrap().as_slice(), b"another");
        assert!(forget(&name));
        assert!(kept(&name).is_none() && !forget(&name));
    }

    /// A number of seconds that 32 bits do not hold is none that ends.
    #[test]
    fn keeps_nothing_for_ever() {
        let name = format!("spa:test:ever:{}", std::process::id());
        for beyond in [1 << 32, (1 << 32) + 60, u64::MAX] {
            assert!(keep(&name, b"secret", Duration::from_secs(beyond)).is_err(), "{beyond}");
            assert!(kept(&name).is_none(), "{beyond}");
        }
    }
}
