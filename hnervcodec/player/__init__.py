"""The player for browsers: plain ES modules, a kernel in WebAssembly, what makes a page of them."""
