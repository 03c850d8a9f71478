"""How the product of an array is read: converters, noise, tiles, wires. Imports device."""
