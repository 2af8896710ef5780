//! What can go wrong with the store, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use spa_proto::Timestamp;

use crate::date;
use crate::document::Malformed;
use crate::files::FileError;
use crate::host::InvalidHost;
use crate::random::NoRandomness;
use crate::record::ClientName;

/// Why the store did not do what was asked.
#[derive(Debug)]
pub enum StoreError {
    /// A file or a directory.
    File(FileError),
    /// What is in a file.
    Malformed(Malformed),
    /// No server key in this directory.
    NotInitialised(PathBuf),
    /// A server key is there already, in this file.
    Initialised(PathBuf),
    /// Not a name that clients can resolve.
    Host(InvalidHost),
    /// What is to be written contradicts itself.
    Policy(&'static str),
    /// A client of this name is there already.
    Taken(ClientName),
    /// A person of this name has devices, or else is a client itself.
    Person(ClientName),
    /// This person has devices, and no file that would say what they may do together.
    Unsaid {
        /// Who.
        name: ClientName,
        /// The file.
        path: PathBuf,
    },
    /// What is asked for is done for one client, and this person has these.
    Devices(Vec<ClientName>),
    /// No client of this name.
    Unknown(ClientName),
    /// No client of this name any more.
    Revoked(ClientName),
    /// This client has knocked: its token is of the past.
    Enrolled(ClientName),
    /// The record is not what the caller took it for: it was made anew, bound
    /// to a key, or knocked with since.
    Changed(ClientName),
    /// A client whose token is still out has no keys that could be replaced.
    NotEnrolled(ClientName),
    /// Its keys, or the server's, are being replaced already.
    Overlap {
        /// Whose.
        of: String,
        /// Up to when the former ones work.
        until: Timestamp,
    },
    /// Its keys, or the server's, are not being replaced.
    NoOverlap(String),
    /// Somebody else has been writing for too long, holding this file.
    Locked(PathBuf),
    /// What shuts a client out could not be written, so that it can knock as before.
    StillIn {
        /// Who; for a person, all devices.
        name: ClientName,
        /// The file by which a client can.
        record: Option<PathBuf>,
        /// Why not.
        error: FileError,
    },
    /// No random numbers to be had.
    Random(NoRandomness),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Malformed(error) => error.fmt(f),
            Self::NotInitialised(dir) => {
                let dir = dir.display();
                write!(f, "there is no server key in {dir}; run: spa-keys --dir {dir} init")
            }
            Self::Initialised(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path} is there already and stays as it is: clients know the server by it"
                )
            }
            Self::Host(error) => error.fmt(f),
            Self::Policy(what) => f.write_str(what),
            Self::Taken(name) => write!(
                f,
                "there is a client {name} already, which stays as it is: take another name, or \
                 run spa-keys revoke {name} first"
            ),
            Self::Person(name) => write!(
                f,
                "{name} is either a client or a person with devices: where it is a client now, give \
                 it a device's name first: spa-keys rename {name} {name}/DEVICE; where it has \
                 devices, name another: {name}/DEVICE"
            ),
            Self::Unsaid { name, path } => write!(
                f,
                "there is no {}: if there was one, put it back first, for nobody here knows what it \
                 said of {name}, who may have been disabled; if there was none, say --yes",
                path.display()
            ),
            Self::Devices(names) => {
                let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                write!(f, "that is a person: say which of the devices, {}", names.join(" or "))
            }
            Self::Unknown(name) => {
                write!(f, "there is no client {name}; spa-keys list shows those there are")
            }
            Self::Revoked(name) => write!(f, "{name} is revoked already"),
            Self::Enrolled(name) => write!(
                f,
                "{name} has enrolled, or counts as enrolled since it was imported: nothing was \
                 changed; to shut it out, run spa-keys revoke {name}; for a token with the keys that \
                 it has, spa-keys rotate --token {name}"
            ),
            Self::Changed(name) => write!(f, "the record of {name} has changed meanwhile"),
            Self::NotEnrolled(name) => write!(
                f,
                "{name} has not used its token yet, so that there is nothing to replace; for \
                 another token, run spa-keys renew {name}"
            ),
            Self::Overlap { of, until } => write!(
                f,
                "the keys of {of} are being replaced already, up to {}: end that with --finish or \
                 --abort first; spa-keys rotate --status shows who has moved",
                date::format(*until)
            ),
            Self::NoOverlap(of) => write!(f, "the keys of {of} are not being replaced"),
            Self::Locked(path) => write!(
                f,
                "another program has been holding {} for too long: try again, or see which with \
                 fuser",
                path.display()
            ),
            Self::StillIn { name, record, error } => {
                write!(
                    f,
                    "{error}\n{name} CAN STILL KNOCK: see to it that this can be written, and try again"
                )?;
                let Some(record) = record else { return Ok(()) };
                write!(f, "; or shut it out at once, and without a trace: rm {}", record.display())
            }
            Self::Random(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<Malformed> for StoreError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<InvalidHost> for StoreError {
    fn from(error: InvalidHost) -> Self {
        Self::Host(error)
    }
}

impl From<NoRandomness> for StoreError {
    fn from(error: NoRandomness) -> Self {
        Self::Random(error)
    }
}
