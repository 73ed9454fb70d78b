//! The cache: which objects a job may use, how files become an archive and back, and how archives travel.

pub mod access;
pub mod archive;
#[cfg(test)]
mod archive_tests;
pub mod format;
pub mod found;
#[cfg(test)]
mod hostile_tests;
pub mod key;
pub mod object;
pub mod pipe;
mod plant;
pub mod room;
mod tar_reader;
#[cfg(test)]
mod test_archive;
#[cfg(test)]
pub(crate) mod test_bucket;
pub mod transfer;
#[cfg(test)]
mod transfer_tests;
pub mod unpack;
pub mod unzip;
mod zipped;

pub use plant::Unpacked;
pub use zipped::Extra;
