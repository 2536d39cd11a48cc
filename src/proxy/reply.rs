//! What a client is answered.

use http::Response;

use super::body::ResponseBody;
use crate::upstream::ResponseHead;

/// An answer on its way to the client: a backend's, whose head stays where it was read to, or ours.
#[derive(Debug)]
pub struct Reply {
    /// Its head.
    pub head: Box<ResponseHead>,
    /// Its body.
    pub body: ResponseBody,
}

impl From<Response<ResponseBody>> for Reply {
    fn from(response: Response<ResponseBody>) -> Self {
        let (head, body) = ResponseHead::of(response);
        Reply { head, body }
    }
}
