"""When the page is drawn, for whoever drives it in a browser."""

# All three views have their picture, of the size they have on screen, and the page waits for nothing
READY = """(() => {
  const images = [...document.querySelectorAll('img.image-display-area')];
  const whole = (image) => image.naturalWidth > 50 && Math.abs(image.naturalWidth - image.clientWidth) < 3;
  return images.length === 3 && images.every(whole) && window.trame?.state?.get('trame__busy') === 0;
})()"""
