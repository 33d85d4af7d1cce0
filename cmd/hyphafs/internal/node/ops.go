package node

// The operations of the control socket, and their answers.
const (
	OpStatus  = "status"  // status.Status
	OpPending = "pending" // []status.Request
	OpNodes   = "nodes"   // []status.Writer
	OpApprove = "approve" // args: the request's directory name
	OpDeny    = "deny"    // args: the request's directory name
	OpSync    = "sync"    // args: none, or ArgPeer
	OpCheck   = "check"   // returns when everything was verified
	OpStop    = "stop"    // publishes and unmounts, and answers with what else a person has to know (string); the node ends then

	ArgPeer = "peer" // sync: wait until a peer has everything
)
