package ws

// Endpoint is endpoint for tests.
var Endpoint = endpoint
