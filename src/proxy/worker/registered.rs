//! The list of a worker's connections, from the side of one of them.

use std::rc::Rc;

use crate::proxy::connection::ConnectionState;
use crate::proxy::permit::Permit;

/// A connection in its worker's list, until dropped.
#[derive(Debug)]
pub struct Registered {
    connection: Rc<ConnectionState>,
    key: usize,
    _permit: Permit,
}

impl Registered {
    /// Enters a connection into the list.
    pub fn new(connection: Rc<ConnectionState>, permit: Permit) -> Self {
        let key = connection.worker.connections.borrow_mut().insert(Rc::clone(&connection));
        Registered { connection, key, _permit: permit }
    }
}

impl std::ops::Deref for Registered {
    type Target = Rc<ConnectionState>;

    fn deref(&self) -> &Rc<ConnectionState> {
        &self.connection
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connection.worker.connections.borrow_mut().remove(self.key);
        self.connection.left();
    }
}
