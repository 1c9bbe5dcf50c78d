//! ELF executables of guests: what is believed of their headers, and how they are laid out in a compartment.
