//! What is wrong is refused, with a message that names the thing and what to do; nothing is lost.

mod api;
mod changing_files;
mod configurations;
mod folders;
mod geoip;
mod names;
