//! Tests that take more than one part of the room.

mod simulation;
