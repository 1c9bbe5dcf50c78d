module baton

go 1.23
