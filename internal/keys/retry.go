package keys

import (
	"errors"
	"fmt"
)

// errNoConnection is the state of a key between a failure and a reconnect.
var errNoConnection = fmt.Errorf("%w: no connection to the token", ErrNotSigned)

// errReplaced is what a login says that was given up because a newer one takes
// its place.
var errReplaced = fmt.Errorf("%w: the connection was replaced", ErrNotSigned)

// errFinalTry keeps the last try for a person. PINRefused is true of it.
var errFinalTry = errors.New("the token has one try left for its PIN (CKF_USER_PIN_FINAL_TRY), and a wrong one locks " +
	"it: no PIN was sent. Log in once with the token's own tool, which clears the count, or set pkcs11.final_try: " +
	"true for one start")

// curable reports whether a new connection may help where err came of the old
// one. mask is heals, with padding for those that take only a sure sign of it.
func curable(err error, mask verdict) bool {
	if errors.Is(err, errNoConnection) || errors.Is(err, errReplaced) {
		return true
	}
	if mask&padding != 0 && says(err, padding) {
		return false
	}
	return says(err, heals)
}

// after joins the failures of two tries. Nothing was signed only if neither did.
func after(first, second error) error {
	switch {
	case errors.Is(first, errNoConnection) || errors.Is(first, errReplaced):
		return second
	case errors.Is(first, ErrNotSigned):
		return fmt.Errorf("%w (at first: %s)", second, first.Error())
	}
	return fmt.Errorf("%w; then: %s", first, second.Error())
}
