//! Where are the bytes of a digest, and are they still those bytes?
//!
//! [`Store`] keeps immutable blobs by digest. Blobs of up to 1 MiB lie in *packs*, one file per
//! inserted batch in the very format of [`nigh_proto::pack`], so that a batch costs two syncs
//! however many blobs it has. Larger blobs lie *loose*, raw, one file each. Nothing updates a blob,
//! and its name exists only after its bytes were checked against it.
//!
//! ```text
//! lock                  held while a store is open
//! packs/0000002a.pack   one batch
//! packs/0000002a.drop   digests of that batch that no longer count: corrupt, or not live
//! loose/ab/abcd…        one large blob
//! partial/abcd…         a large blob as far as it was uploaded
//! tmp/                  files without a name of their own yet
//! quarantine/           damaged files, for an operator to look at; the oldest go first
//! ```
//!
//! # A crash at any line
//!
//! | stopped while | the next start finds |
//! | --- | --- |
//! | a batch or large blob is received, checked or synced | a file in `tmp/`, removed |
//! | it has its name, before the caller was told | the blobs, whole; a repeat finds them present |
//! | a partial grows | a shorter or, after a power cut, damaged partial; `finish` checks all of it |
//! | `forget` or `collect` notes dropped digests | the old note or the new one |
//! | `collect` has rewritten packs, before the old ones went | blobs twice; the younger pack counts |
//! | `collect` removed a pack, before its note | a note without a pack, removed |
//!
//! A pack whose head or length is wrong is moved to `quarantine/`; its blobs are then missing and
//! are fetched or pushed again. Damage inside bodies is found by reading: [`Store::read`] and
//! [`Store::verify`] check, [`Store::forget`] makes room for a good copy.
//!
//! # Bounds
//!
//! Memory: 56 to 112 bytes per blob, about 200 bytes per pack, and about 10 MiB per insert under
//! way. Open files: [`StoreOptions::open_packs_max`]. Disk: [`StoreOptions::reserve_bytes`] stay
//! free.

mod ages;
mod builder;
mod codec;
mod collect;
mod disk;
mod drops;
mod error;
mod frame;
mod heads;
mod index;
mod insert;
mod layout;
mod oldest;
mod open;
mod outline;
mod pack_files;
mod pack_writer;
mod partial;
mod plan;
mod quarantine;
mod read;
mod receive;
mod rewrite;
mod store;
#[cfg(test)]
mod tests;

pub use builder::{PackBuilder, PushError};
pub use collect::Collected;
pub use error::{FileError, InsertError, OpenError, ReadError, WritePackError};
pub use frame::BadFrame;
pub use insert::Inserted;
pub use outline::{Outline, PIECE_BYTES};
pub use partial::Partial;
pub use plan::{PackUse, Plan, plan};
pub use read::StoredBody;
pub use store::{BlobStat, Store, StoreOptions, Usage};
