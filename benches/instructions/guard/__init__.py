"""What benches/instructions/run is made of."""
