"""The four claims of docs/protocol.md, all other effects, and the tables that figures are drawn from."""
