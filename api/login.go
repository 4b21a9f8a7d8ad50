package api

import "time"

// Ways are the ways in at a listener.
type Ways struct {
	OIDC []OIDCWay `json:"oidc"`
}

// OIDCWay is a provider that people log in at.
type OIDCWay struct {
	Issuer string `json:"issuer"`
	Name   string `json:"name"`
}

// LoginStart begins a login by authorization code.
type LoginStart struct {
	RedirectURI string `json:"redirect_uri"` // On the loopback interface, by address.
}

// LoginStarted says where the browser goes. Flow goes into LoginFinish with the code that
// comes to the redirect URI, whose state must be State.
type LoginStarted struct {
	AuthorizeURL string `json:"authorize_url"`
	Flow         string `json:"flow"`
	State        string `json:"state"`
}

// DeviceStarted says where a person enters which code, on any device. LoginFinish with
// Flow waits for it; 202 says to ask again.
type DeviceStarted struct {
	Flow                    string `json:"flow"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete,omitempty"`
}

// LoginFinish ends a login. Code and State are of an authorization code only.
type LoginFinish struct {
	Code  string `json:"code,omitempty"`
	Flow  string `json:"flow"`
	State string `json:"state,omitempty"`
}

// LoggedIn is a new session.
type LoggedIn struct {
	Caller    string    `json:"caller"` // What records name it by.
	ExpiresAt time.Time `json:"expires_at"`
	Name      string    `json:"name,omitempty"`
	Token     string    `json:"token"` // Goes into Authorization: Bearer. It is in no other answer.
}
