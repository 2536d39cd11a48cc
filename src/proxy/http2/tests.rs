//! What a connection makes of frames, without a socket.

mod ending;
mod floods;
mod frames;
mod peer;
mod windows;
