module guest

go 1.23

require baton v0.0.0

replace baton => ../../../../../../sdk/go
