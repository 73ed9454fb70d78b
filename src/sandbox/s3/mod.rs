//! A stand-in for Amazon S3: `s3s-fs` in process, with names, conditions and errors as S3 has them.
//!
//! `s3s` speaks the protocol and verifies signatures; `s3s-fs` keeps bytes, ranges, checksums and parts. It stores every
//! write as a new blob under a name of ours, and a table of keys points at blobs. So a write becomes visible in one step,
//! `If-Match` is atomic (aws.md §5), a reader never meets a half-written object, and a key can be anything that S3 allows.

mod blob;
mod conditions;
mod front;
mod listing;
mod objects;
mod root;
mod server;
mod store;
mod uploads;

pub use server::{Options, S3};
