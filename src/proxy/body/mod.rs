//! The bodies that pass through, one type for each direction.
//!
//! Bytes are never copied here: a frame that one side read is the frame that the other side
//! writes. What the bodies add is bookkeeping at their ends, which is where it belongs: when a
//! client leaves, the body is dropped and nothing else would run.

mod events;
mod hold;
mod incoming;
mod relay;
mod request;
mod response;

pub use events::EventStream;
pub use hold::{Answer, Hold, tells_grpc_failure};
pub use incoming::Incoming;
pub use relay::Relay;
pub use request::{Progress, REPLAY_BYTES, RequestBody, Upload, UploadFailure};
pub use response::ResponseBody;
