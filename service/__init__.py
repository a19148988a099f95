"""The HTTP API: routes parse requests and respond, core contains the rules, store holds all data. Never imports torch."""
