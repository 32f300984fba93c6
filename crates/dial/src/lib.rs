//! Which of control's addresses is dialled next?
//!
//! Several controls on one database are as good as one another, so whoever finds that one is of no
//! use asks another. [`ControlUrls`] is where they are said to be, [`Turns`] whose turn it is, and
//! [`Resolver`] makes connections of a [`Turn`] begin with its address of a name that has several.

mod resolver;
mod turns;
mod urls;

pub use resolver::Resolver;
pub use turns::{Turn, Turns};
pub use urls::{ControlUrls, InvalidUrls, URLS_MAX, is_loopback};
