//! Vendors' systems on loopback, for tests and demos of connectors to hosted products: one folder each, with faults that
//! a test can ask for. Shares no code with the connectors that it is there to try, and uses nothing of ours. Databases
//! are not simulated: tests run the real ones.
