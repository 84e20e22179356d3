"""What is served: releases, how they are loaded, and which URL prefix means which."""
