"""What runs in the guest: user/pybd on volumes of LVM."""
