// Starts a page that holds everything itself: the code and the kernels packed, the video as it is.
// They are elements of its own, as scripts of other files have no place in a page from a disk.
(async () => {
  const held = (id) => Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const unpacked = (id) => new Response(new Blob([held(id)]).stream().pipeThrough(new DecompressionStream("gzip")));
  const code = await unpacked("code").text();
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const script = document.createElement("script");
  script.textContent = code;
  document.head.append(script);
  hnvStart({
    file: held("video"),
    startWorker: () => new Worker(address),
    binaries: {
      kernel: await unpacked("kernel").arrayBuffer(),
      kernel_i8: await unpacked("kernel_i8").arrayBuffer(),
    },
  });
})().catch((error) => {
  document.getElementById("message").textContent = `This browser is too old for this page: ${error.message}`;
});
