package keys

import (
	"errors"
	"fmt"
)

// verdict is what a return value of PKCS#11 says beyond that the call failed.
type verdict uint8

const (
	// before: the module looked and refused; no operation took place. Where
	// PKCS#11 leaves that open, a code does not have it.
	before verdict = 1 << iota
	// heals: a new connection to the token may cure it.
	heals
	// void: the sessions of the connection no longer exist.
	void
	// padding: with a decryption it may mean nothing but a bad ciphertext.
	padding
	// pin: the token refused the PIN, or every PIN. Trying again may lock it.
	pin
)

// The return values that code asks for by name.
const (
	ckrFunctionNotPermitted = 0x68
	ckrPINIncorrect         = 0xA0
	ckrPINLocked            = 0xA4
)

// ckr is a return value of PKCS#11 (version 2.40, section 5.1; values in the
// specification's header) in words for the person who has to act.
type ckr struct {
	name    string
	verdict verdict
	words   string
	next    string // what to do
}

// What a person does next. What heals by itself says so.
const (
	nextAgain = "nothing: the key is connected and tried again by itself; if it stays, restart this node"
	nextToken = "see to the token and the way to it; the key signs again by itself, or its health says to restart " +
		"this node"
	nextPIN     = "correct the PIN's file, then run: privyseal config reload"
	nextOfficer = "set the user PIN as the token's security officer, write it to the PIN's file, then restart this node"
	nextModule  = "read the module's own log, and look at its settings and version"
	nextKey     = "look at the key and its attributes with the token's own tool; no restart helps"
	nextAlg     = "choose another algorithm, or allow it in the token's policy; no restart helps"
	nextRoom    = "free some in the token, or give this server less (pkcs11.sessions); no restart of this node helps"
	nextMachine = "give this machine or process more memory, then restart this node"
	nextRestart = "restart this node, and load the module in no other part of it"
	nextSender  = "nothing here: it was sent so; if all are refused, the sender has another certificate than this key's"
	nextWrite   = "take the write protection away with the token's own tool"
)

var ckrs = map[uint]ckr{
	0x02: {"CKR_HOST_MEMORY", 0, "the PKCS#11 module ran out of memory on this machine", nextMachine},
	0x03: {"CKR_SLOT_ID_INVALID", before | heals | void,
		"the slot does not exist any more; slot numbers may change, so name the token by label or serial", nextToken},
	0x05: {"CKR_GENERAL_ERROR", heals | padding, "the module gives no reason; its own log may (SoftHSM: the token " +
		"directory is missing or not readable by this user)", nextModule},
	0x06: {"CKR_FUNCTION_FAILED", heals | padding, "the token could not carry the operation out and gives no reason",
		nextModule},
	0x07: {"CKR_ARGUMENTS_BAD", before, "the module refused the call's arguments; the module may be of another " +
		"PKCS#11 version", nextModule},
	0x20: {"CKR_DATA_INVALID", before | padding, "the token refused the input", nextKey},
	0x21: {"CKR_DATA_LEN_RANGE", before | padding,
		"the token does not sign an input of this length; the hash may be too long for the key", nextKey},
	0x30: {"CKR_DEVICE_ERROR", heals, "the token or the connection to it has a fault; look at the device and its " +
		"network", nextToken},
	0x31: {"CKR_DEVICE_MEMORY", 0, "the token has no memory left: delete objects or close other programs' sessions",
		nextRoom},
	0x32: {"CKR_DEVICE_REMOVED", heals | void, "the token was removed while it worked", nextToken},
	0x40: {"CKR_ENCRYPTED_DATA_INVALID", padding, "the ciphertext is not for this key, or is damaged", nextSender},
	0x41: {"CKR_ENCRYPTED_DATA_LEN_RANGE", before | padding, "the ciphertext has another length than the key",
		nextSender},
	0x54: {"CKR_FUNCTION_NOT_SUPPORTED", before, "the module does not have this function", nextModule},
	0x60: {"CKR_KEY_HANDLE_INVALID", before | heals,
		"the key is gone from the token, or the session that found it is", nextKey},
	0x62: {"CKR_KEY_SIZE_RANGE", before, "the token does not work with keys of this size", nextKey},
	0x63: {"CKR_KEY_TYPE_INCONSISTENT", before, "the key is of a type that does not fit the mechanism", nextKey},
	0x68: {"CKR_KEY_FUNCTION_NOT_PERMITTED", before,
		"the key's attributes do not allow this use: it needs CKA_SIGN to sign, CKA_DECRYPT to decrypt", nextKey},
	0x70: {"CKR_MECHANISM_INVALID", before, "the token does not offer the mechanism, or its policy (FIPS mode) " +
		"switched it off", nextAlg},
	0x71: {"CKR_MECHANISM_PARAM_INVALID", before,
		"the token does not take these parameters: hash, mask function or salt length", nextAlg},
	0x82: {"CKR_OBJECT_HANDLE_INVALID", before | heals,
		"the key is gone from the token, or the session that found it is", nextKey},
	0x90: {"CKR_OPERATION_ACTIVE", before | heals, "the session still holds an earlier operation", nextAgain},
	0x91: {"CKR_OPERATION_NOT_INITIALIZED", before | heals, "the session lost the operation that was begun in it",
		nextAgain},
	0xA0: {"CKR_PIN_INCORRECT", before | pin, "the token refused the PIN; it is not tried again, for tokens lock " +
		"after a few", nextPIN},
	0xA1: {"CKR_PIN_INVALID", before | pin, "the PIN has characters that the token does not take", nextPIN},
	0xA2: {"CKR_PIN_LEN_RANGE", before | pin, "the PIN is too short or too long for the token", nextPIN},
	0xA3: {"CKR_PIN_EXPIRED", before | pin, "the PIN has expired: set a new one with the token's own tool",
		nextOfficer},
	0xA4: {"CKR_PIN_LOCKED", before | pin, "the PIN is locked after too many wrong ones: the security officer must " +
		"reset it", nextOfficer},
	0xB0: {"CKR_SESSION_CLOSED", heals | void, "the session was closed during the operation", nextAgain},
	0xB1: {"CKR_SESSION_COUNT", before, "the token has no session left: other programs hold them", nextRoom},
	0xB3: {"CKR_SESSION_HANDLE_INVALID", before | heals | void,
		"the session does not exist any more: the token restarted, or something closed it", nextAgain},
	0xB4: {"CKR_SESSION_PARALLEL_NOT_SUPPORTED", before, "the token does not take this kind of session", nextModule},
	0xB5: {"CKR_SESSION_READ_ONLY", before, "the session may not write to the token", nextModule},
	0xD0: {"CKR_TEMPLATE_INCOMPLETE", before, "the token wants more attributes for a new key than were given",
		nextModule},
	0xD1: {"CKR_TEMPLATE_INCONSISTENT", before, "the token refuses this combination of attributes", nextAlg},
	0xE0: {"CKR_TOKEN_NOT_PRESENT", before | heals | void,
		"the token is not in its slot, or the network HSM is not reachable", nextToken},
	0xE1: {"CKR_TOKEN_NOT_RECOGNIZED", before | heals | void,
		"the slot holds something that the module does not know", nextToken},
	0xE2: {"CKR_TOKEN_WRITE_PROTECTED", before, "the token is write-protected", nextWrite},
	0x101: {"CKR_USER_NOT_LOGGED_IN", before | heals,
		"the login is gone, because the token restarted or something in this process logged out, or the token wants " +
			"the PIN for each use and did not get it", nextAgain},
	0x102: {"CKR_USER_PIN_NOT_INITIALIZED", before | pin,
		"the token has no user PIN yet: the security officer must set one", nextOfficer},
	0x104: {"CKR_USER_ANOTHER_ALREADY_LOGGED_IN", before, "this program is logged in to the token as another user",
		nextRestart},
	0x105: {"CKR_USER_TOO_MANY_TYPES", before, "the token takes no more users at a time", nextRestart},
	0x130: {"CKR_DOMAIN_PARAMS_INVALID", before, "the token does not know the curve", nextAlg},
	0x140: {"CKR_CURVE_NOT_SUPPORTED", before, "the token does not know the curve", nextAlg},
	0x150: {"CKR_BUFFER_TOO_SMALL", 0, "the module returned more than it had announced", nextModule},
	0x190: {"CKR_CRYPTOKI_NOT_INITIALIZED", before | heals | void, "something in this process shut the module down",
		nextAgain},
	0x191: {"CKR_CRYPTOKI_ALREADY_INITIALIZED", before, "something else in this process uses the module", nextRestart},
	0x200: {"CKR_FUNCTION_REJECTED", before, "the token, or a person at it, did not allow the operation", nextToken},
	0x09: {"CKR_NEED_TO_CREATE_THREADS", before, "the module wants threads of its own and may not make them",
		nextModule},
	0x0A: {"CKR_CANT_LOCK", before, "the module cannot be used by several threads", nextModule},
	0x10: {"CKR_ATTRIBUTE_READ_ONLY", before, "the token sets this attribute of a key itself", nextModule},
	0x11: {"CKR_ATTRIBUTE_SENSITIVE", before, "the token does not show this attribute of the key", nextKey},
	0x12: {"CKR_ATTRIBUTE_TYPE_INVALID", before, "the token does not know an attribute that was asked for",
		nextModule},
	0x13: {"CKR_ATTRIBUTE_VALUE_INVALID", before, "the token does not take an attribute of the new key", nextAlg},
	0x1B: {"CKR_ACTION_PROHIBITED", before, "the token's policy forbids the operation", nextAlg},
	0x50: {"CKR_FUNCTION_CANCELED", 0, "the operation was cancelled at the token or by the module", nextToken},
	0xB7: {"CKR_SESSION_READ_ONLY_EXISTS", before, "a session that may not write stands against the login",
		nextRestart},
	0xB8: {"CKR_SESSION_READ_WRITE_SO_EXISTS", before,
		"the security officer is logged in to the token in this process", nextRestart},
	0x100: {"CKR_USER_ALREADY_LOGGED_IN", before, "this process is logged in to the token already", nextAgain},
	0x103: {"CKR_USER_TYPE_INVALID", before, "the token has no login of this kind", nextModule},
	0x120: {"CKR_RANDOM_SEED_NOT_SUPPORTED", before, "the token takes no randomness from outside", nextModule},
	0x121: {"CKR_RANDOM_NO_RNG", before, "the token has no source of randomness, which the signature needs", nextAlg},
	0x1A0: {"CKR_MUTEX_BAD", 0, "the module's own locks are broken", nextRestart},
	0x1A1: {"CKR_MUTEX_NOT_LOCKED", 0, "the module's own locks are broken", nextRestart},
	0x1B7: {"CKR_LIBRARY_LOAD_FAILED", before, "the module could not load a library that it needs", nextModule},
	0x1B8: {"CKR_PIN_TOO_WEAK", before | pin, "the token does not take so weak a PIN any more", nextOfficer},
}

// tokenError is a return value of PKCS#11 other than CKR_OK.
type tokenError struct {
	code uint
}

func (e *tokenError) Error() string {
	c, ok := ckrs[e.code]
	if !ok {
		return fmt.Sprintf("PKCS#11 code 0x%X (see the module's manual)", e.code)
	}
	return fmt.Sprintf("%s (0x%X): %s; %s", c.name, e.code, c.words, c.next)
}

// Is makes a refused PIN look like a wrong passphrase, and a call that the
// module refused before it did anything like ErrNotSigned.
func (e *tokenError) Is(target error) bool {
	switch target {
	case ErrWrongPassphrase:
		return e.code == ckrPINIncorrect
	case ErrNotSigned:
		return e.is(before)
	}
	return false
}

func (e *tokenError) is(v verdict) bool { return ckrs[e.code].verdict&v != 0 }

// says reports whether err is a return value with the verdict.
func says(err error, v verdict) bool {
	var e *tokenError
	return errors.As(err, &e) && e.is(v)
}

// PINRefused reports whether a key could not be opened because the token refused
// the PIN. Tokens lock after a few: a person has to look before it is tried again.
// It is also true where no PIN was sent because the token has one try left.
func PINRefused(err error) bool { return says(err, pin) || errors.Is(err, errFinalTry) }
