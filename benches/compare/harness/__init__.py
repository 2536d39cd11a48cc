"""What benches/compare/run is made of; benches/README.md tells the method."""
