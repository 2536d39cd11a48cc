//! The admin API over real sockets, in front of a real control plane.

mod changes;
mod events;
mod guard;
mod house;
mod serve;
mod told;
