package admin

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/alkdev/hub/codec"
)

// problem is the error that a request is answered with.
type problem struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
	Index   *int   `json:"index,omitempty"` // which envelope of a batch is meant
}

// newProblem formats as fmt.Sprintf does, and errors as codec.Problem does.
func newProblem(status int, code, format string, args ...any) *problem {
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i] = codec.Problem(err)
		}
	}
	return &problem{status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// at says which envelope p is about.
func (p *problem) at(index int) *problem {
	p.Index = &index
	return p
}

// retryAfter is the answer to "when?" of all that may go better soon, in seconds.
const retryAfter = "1"

func refuse(w http.ResponseWriter, p *problem) {
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	answer(w, p.status, map[string]*problem{"error": p})
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("admin: answer: " + err.Error()) // all of it is made of our own types
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error is the client's loss
}
